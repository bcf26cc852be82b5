/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "cli/cli.h"

int table_add(struct table *table, const char *text)
{
    char **grown = reallocarray(table->items, table->cells + 1, sizeof *grown);
    char *copy = strdup(text);
    if (grown != NULL)
        table->items = grown;
    if (grown == NULL || copy == NULL) {
        free(copy);
        return -ENOMEM;
    }
    /* What comes from files and guests must not move the cursor. */
    for (char *p = copy; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F ||
            ((unsigned char)*p >= 0x80 && !era_str_is_utf8(copy, strlen(copy))))
            *p = '?';
    table->items[table->cells++] = copy;
    return 0;
}

void table_add_row(struct table *table, const char *const cells[])
{
    for (size_t i = 0; i < table->columns; i++)
        (void)table_add(table, cells[i]);
}

int listing_print(const struct listing *listing, const void *list, size_t count, bool as_table)
{
    struct table table = {.columns = listing->columns};
    int status = EXIT_OK;
    if (as_table)
        table_add_row(&table, listing->heads);
    for (size_t i = 0; status == EXIT_OK && i < count; i++) {
        if (as_table)
            listing->add_row(&table, list, i);
        else
            status = output_json(listing->describe(list, i));
    }
    if (as_table) {
        table_print(&table);
        status = output_flush();
    }
    table_clear(&table);
    return status;
}

/* Columns of a terminal that UTF-8 text takes, every character counted as one. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (const char *p = text; *p != '\0'; p++)
        width += ((unsigned char)*p & 0xC0) != 0x80;
    return width;
}

void table_print(const struct table *table)
{
    size_t widths[TABLE_COLUMNS_MAX] = {0};
    for (size_t i = 0; i < table->cells; i++) {
        size_t width = width_of(table->items[i]);
        if (width > widths[i % table->columns])
            widths[i % table->columns] = width;
    }
    for (size_t i = 0; i < table->cells; i++) {
        bool last = i % table->columns == table->columns - 1;
        size_t pad = last ? 0 : widths[i % table->columns] - width_of(table->items[i]) + 3;
        printf("%s%*s%s", table->items[i], (int)pad, "", last ? "\n" : "");
    }
}

void table_clear(struct table *table)
{
    for (size_t i = 0; i < table->cells; i++)
        free(table->items[i]);
    free(table->items);
    *table = (struct table){.columns = table->columns};
}

void table_age(int64_t realtime_ns, char *to, size_t size)
{
    static const struct {
        const char *name;
        int64_t seconds;
    } units[] = {{"day", 86400}, {"hour", 3600}, {"minute", 60}, {"second", 1}};
    int64_t seconds = (era_clock_realtime_ns() - realtime_ns) / 1000000000;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        int64_t count = seconds / units[i].seconds;
        if (count >= 1) {
            snprintf(to, size, "%lld %s%s ago", (long long)count, units[i].name, count > 1 ? "s" : "");
            return;
        }
    }
    era_str_copy(to, size, "now");
}
