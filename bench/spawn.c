/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn - times commands from the start of their process to its end, in turn:
 * A B C A B C …, so that a machine that becomes slower does so for all.
 *
 * Usage: spawn ROUNDS < COMMANDS
 *   COMMANDS: a line each, words separated by TAB; stdout is dropped.
 * Prints a line for each command: its times in microseconds, sorted, or "failed STATUS".
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

enum { COMMANDS_MAX = 64, WORDS_MAX = 64, ROUNDS_MAX = 100000, WARMUP = 2 };

struct command {
    char *words[WORDS_MAX + 1];
    uint64_t *times;
    int failed; /* a wait status */
};

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void split(char *line, struct command *command)
{
    size_t count = 0;
    line[strcspn(line, "\n")] = '\0';
    for (char *word = strsep(&line, "\t"); word != NULL && count < WORDS_MAX; word = strsep(&line, "\t"))
        command->words[count++] = word;
}

static uint64_t time_once(struct command *command, const posix_spawn_file_actions_t *actions)
{
    uint64_t start = now_us();
    pid_t pid;
    int status = 0;
    if (posix_spawnp(&pid, command->words[0], actions, NULL, command->words, environ) != 0) {
        command->failed = 127 << 8;
        return 0;
    }
    waitpid(pid, &status, 0);
    uint64_t end = now_us();
    if (status != 0)
        command->failed = status;
    return end - start;
}

int main(int argc, char **argv)
{
    static struct command commands[COMMANDS_MAX];
    unsigned rounds = 0;
    size_t count = 0;
    char *line = NULL;
    size_t size = 0;
    for (const char *p = argc == 2 ? argv[1] : ""; *p >= '0' && *p <= '9' && rounds < ROUNDS_MAX; p++)
        rounds = 10 * rounds + (unsigned)(*p - '0');
    if (rounds < 1 || rounds > ROUNDS_MAX)
        return 2;
    while (count < COMMANDS_MAX && getline(&line, &size, stdin) > 1) {
        split(line, &commands[count]);
        commands[count++].times = calloc(rounds, sizeof(uint64_t));
        line = NULL; /* its words point into it */
        size = 0;
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    for (unsigned round = 0; round < rounds + WARMUP; round++)
        for (size_t i = 0; i < count; i++) {
            uint64_t taken = commands[i].failed != 0 ? 0 : time_once(&commands[i], &actions);
            if (round >= WARMUP)
                commands[i].times[round - WARMUP] = taken;
        }
    for (size_t i = 0; i < count; i++) {
        if (commands[i].failed != 0) {
            printf("failed %d\n", commands[i].failed);
            continue;
        }
        qsort(commands[i].times, rounds, sizeof(uint64_t), compare);
        for (unsigned round = 0; round < rounds; round++)
            printf("%llu%c", (unsigned long long)commands[i].times[round], round + 1 < rounds ? ' ' : '\n');
    }
    return 0;
}
