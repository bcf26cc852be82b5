/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h - the command line: one face of the library (era/era.h), which does
 * all the work. A command is an entry of a table: its options, its words for
 * help, manual and completion, and its function, which lives in a file of the
 * same name. --help, man pages and completion are made from the same tables.
 */
#ifndef ERA_CLI_CLI_H
#define ERA_CLI_CLI_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/json.h"
#include "era/era.h"

enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_TIMED_OUT = 124,
    EXIT_AGENT = 125, /* of commands that otherwise exit as the guest's command did */
    EXIT_INTERRUPTED = 130,
};

/* ---- commands and their options ----------------------------------------- */

struct option {
    const char *name;    /* without the dashes; NULL ends a table */
    const char *metavar; /* NULL: a flag */
    const char *help;    /* one line */
    const char *values;  /* "a|b|c" for completion, "<file>", or NULL */
    bool required;
    bool repeatable;
};

struct invocation;

struct command {
    const char *group; /* "vm"; NULL: a command of its own */
    const char *verb;
    const char *summary;     /* one line, no full stop */
    const char *arguments;   /* how positional arguments are written, or NULL */
    int positionals;         /* how many there must be */
    bool takes_argv;         /* "-- ARGV…" may follow */
    bool exits_as_guest;     /* failures of ours are 125 */
    const char *description; /* for the manual; paragraphs are separated by "\n" */
    const char *example;     /* for the manual; NULL without */
    const struct option *options;
    const struct option *more_options; /* a second table, or NULL */
    int (*run)(const struct invocation *invocation);
};

extern const struct command cli_commands[]; /* ends with an empty one */
extern const struct option cli_global_options[];

/* The command of this group (NULL: of its own) and verb, or NULL. */
const struct command *command_find(const char *group, const char *verb);

/* The nth option of a command (its own, then more), or NULL past the end. */
const struct option *command_option(const struct command *command, size_t index);

/* ---- options.c: what was written ---------------------------------------- */

enum { VALUES_MAX = 1024, POSITIONALS_MAX = 16 };

struct value {
    const struct option *option;
    const char *text; /* borrowed from argv; "" for a flag */
};

struct invocation {
    const struct command *command; /* NULL when no command was named */
    bool help;
    bool version;
    size_t value_count;
    size_t positional_count;
    const char *positionals[POSITIONALS_MAX];
    const char *const *argv; /* after "--"; NULL without */
    struct value values[VALUES_MAX];
};

/* Reads argv[1..]. An error has code "usage" and the option as its field. */
int options_parse(int argc, char **argv, struct invocation *ret_invocation, struct era_error *err);

/* The value of an option, the last when there are several, or NULL. */
const char *option_value(const struct invocation *invocation, const char *name);
bool option_given(const struct invocation *invocation, const char *name);
/* The nth value of a repeatable option, or NULL. */
const char *option_nth(const struct invocation *invocation, const char *name, size_t n);
/* A whole number within bounds into *ret_value, left alone when not given; usage error otherwise. */
int option_number(const struct invocation *invocation, const char *name, uint64_t min, uint64_t max,
                  uint64_t *ret_value, struct era_error *err);
/* Seconds, decimals allowed, as milliseconds: more than 0, at most a week. */
int option_timeout_ms(const struct invocation *invocation, uint32_t *ret_timeout_ms, struct era_error *err);

/* ---- help.c, manual.c, completion.c ------------------------------------- */

void help_print(const struct command *command, const char *group); /* both NULL: the whole program */
bool help_group_exists(const char *group);
int manual_write(const char *directory); /* agent.1 and one a group */
void completion_print(void);

/* ---- output.c ----------------------------------------------------------- */

/* Writes out what was printed to stdout so far. EXIT_OK, or EXIT_FAILED (the reason is printed) when stdout takes it
 * not. */
int output_flush(void);
/* Prints one object on a line of stdout and drops the reference. Returns as output_flush() does. */
int output_json(json_t *object);
/* Prints the error and yields the exit status of this command. */
int output_error(const struct invocation *invocation, const struct era_error *err);
/* Whether to draw a table: --output, else whether stdout is a terminal. -1 for a wrong --output (printed). */
int output_wants_table(const struct invocation *invocation);
/* Text for JSON: bytes that are not UTF-8 are replaced. */
json_t *output_string(const char *text);
json_t *output_time(int64_t realtime_ns); /* null for 0 */
json_t *output_vm(const struct era_vm *vm);
json_t *output_created(const struct era_vm *vm); /* what vm create says of it */
json_t *output_image(const struct era_image *image, const char *message);

/* ---- table.c ------------------------------------------------------------ */

enum { TABLE_COLUMNS_MAX = 10 };

/* Rows of cells, printed in columns as wide as they need. Control characters show as "?". */
struct table {
    size_t columns;
    size_t cells;
    char **items; /* owned */
};

int table_add(struct table *table, const char *text); /* cell after cell */
void table_print(const struct table *table);
void table_clear(struct table *table);
/* One row: as many cells as there are columns. */
void table_add_row(struct table *table, const char *const cells[]);

/* A list: a table for people, an object a line for programs. */
struct listing {
    const char *const *heads; /* of the columns */
    size_t columns;
    void (*add_row)(struct table *table, const void *list, size_t i);
    json_t *(*describe)(const void *list, size_t i);
};
int listing_print(const struct listing *listing, const void *list, size_t count, bool as_table); /* the exit status */

/* "3 minutes ago" */
void table_age(int64_t realtime_ns, char *to, size_t size);

/* ---- session.c ---------------------------------------------------------- */

/* Opens the state directory that options and environment name, with progress on a terminal. */
int session_open(const struct invocation *invocation, struct era **ret_era, struct era_error *err);
/*
 * The same for slow work, which a signal ends: it removes what it has begun and
 * fails with "interrupted". *ret_signal_fd is closed after era_close().
 */
int session_open_interruptible(const struct invocation *invocation, struct era **ret_era, int *ret_signal_fd,
                               struct era_error *err);

/* ---- signals.c ---------------------------------------------------------- */

/* Blocks the signals that end a program, but for those that are ignored, and yields a signalfd. */
int signals_block(void);
/* Those and window changes, before a run starts, which gets them by live_loop(); a reader that goes away is an error.
 */
int signals_block_with_resize(void);
/* One of them that has come and was not read, or 0. */
int signals_pending(void);

/* ---- terminal.c --------------------------------------------------------- */

/* Puts the terminal of stdin into raw mode until the end of the process or terminal_restore(). */
int terminal_raw(void);
void terminal_restore(void);
/* The size of the terminal of stdout, else 80x24. */
void terminal_size(uint16_t *ret_cols, uint16_t *ret_rows);

/* ---- live.c: runs whose output is ours ---------------------------------- */

struct live_run {
    const char *vm_id;
    const char *prefix; /* before each line, or NULL */
    struct era_run *run;
    int status; /* the exit status once it ended */
    bool ended;
    struct era_buffer lines[3]; /* by descriptor, with a prefix only: what has come of a line that is not whole */
};

struct live_options {
    bool forward_stdin; /* of the one run */
    bool terminal;      /* raw mode: keys are bytes, window changes are passed on */
    int signal_fd;      /* from signals_block_with_resize() */
};

/* Runs until all have ended. Returns the worst exit status; 128+N when we were told to end by signal N twice. */
int live_loop(struct live_run runs[], size_t count, const struct live_options *options, struct era_error *err);
/* An error for each whose VM ended while it ran, when there is no other result that says so. */
void live_tell_lost(const struct invocation *invocation, const struct live_run runs[], size_t count);

/* ---- ask.c: options that several commands have in common ---------------- */

extern const struct option create_options[];
extern const struct option run_options[];
int ask_vm(const struct invocation *invocation, struct era_vm_spec **ret_spec, struct era_error *err);
/* The same of a language that is named otherwise than by --language. */
int ask_vm_of(const struct invocation *invocation, const char *language, struct era_vm_spec **ret_spec,
              struct era_error *err);
/* The run that --cmd or "-- ARGV" asks for, with the run options that the command has. */
int ask_run(const struct invocation *invocation, struct era_run_spec **ret_spec, struct era_error *err);

/* The VMs that --vm (repeatable) or --all name: a NULL-ended list to be freed with ask_targets_free. */
int ask_targets(const struct invocation *invocation, struct era *era, bool running_only, char ***ret_ids,
                struct era_error *err);
void ask_targets_free(char **ids);

/* ---- the commands ------------------------------------------------------- */

int vm_create(const struct invocation *invocation);
int vm_run(const struct invocation *invocation);
int vm_exec(const struct invocation *invocation);
int vm_shell(const struct invocation *invocation);
int vm_temp(const struct invocation *invocation);
int vm_list(const struct invocation *invocation);
int vm_show(const struct invocation *invocation);
int vm_logs(const struct invocation *invocation);
int vm_cp(const struct invocation *invocation);
int vm_stop(const struct invocation *invocation);
int vm_pause(const struct invocation *invocation);
int vm_resume(const struct invocation *invocation);
int vm_snapshot(const struct invocation *invocation);
int vm_fork(const struct invocation *invocation);
int snapshot_list(const struct invocation *invocation);
int snapshot_remove(const struct invocation *invocation);
int vm_clean(const struct invocation *invocation);
int image_build(const struct invocation *invocation);
int image_pull(const struct invocation *invocation);
int image_import(const struct invocation *invocation);
int image_list(const struct invocation *invocation);
int image_remove(const struct invocation *invocation);
int volume_list(const struct invocation *invocation);
int volume_remove(const struct invocation *invocation);
int serve(const struct invocation *invocation);
int doctor(const struct invocation *invocation);
int version(const struct invocation *invocation);
int completion(const struct invocation *invocation);

/* The whole program. */
int cli_main(int argc, char **argv);

#endif
