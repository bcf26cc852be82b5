/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn - times commands from the start of their process to its end, in turn:
 * A B C A B C …, so that a machine that becomes slower does so for all.
 *
 * Usage: spawn ROUNDS < COMMANDS
 *        spawn --in ROOT COMMAND…
 *
 * COMMANDS: a line each, words separated by TAB; stdout is dropped. Where the
 * first word is "=" the value of "id" in the command's output stands for the
 * words "{}" of the later lines of the same round. Where it is "|" the command
 * is started once and stays; what is timed is its answer to a line with that
 * value: "0", by which it says that all went well.
 * Prints a JSON array with an array for each command: its times in
 * microseconds in the order of the rounds, empty for one that failed.
 *
 * --in: becomes COMMAND with ROOT as its root. As bare as an exec can be, for
 * this program is linked statically.
 */
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { COMMANDS_MAX = 64, WORDS_MAX = 64, WARMUP = 2, ROUNDS_MAX = 100000 };

struct command {
    char *words[WORDS_MAX + 1];
    uint64_t *times;
    bool names; /* its output names what "{}" stands for */
    bool stays;
    FILE *to, *from; /* of one that stays; NULL until it is started */
    bool failed;
};

static char id[64]; /* what "{}" stands for in this round */

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void split(char *line, struct command *command)
{
    size_t count = 0;
    line[strcspn(line, "\n")] = '\0';
    for (char *word = strsep(&line, "\t"); word != NULL && count < WORDS_MAX; word = strsep(&line, "\t"))
        if (count == 0 && !command->names && strcmp(word, "=") == 0)
            command->names = true;
        else if (count == 0 && !command->stays && strcmp(word, "|") == 0)
            command->stays = true;
        else
            command->words[count++] = strcmp(word, "{}") == 0 ? id : word;
}

/* Takes the id out of one object of JSON. */
static bool take_id(int fd)
{
    static const char key[] = "\"id\":\"";
    char text[4096];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n < 0 ? 0 : n] = '\0';
    const char *value = strstr(text, key);
    size_t len = value != NULL ? strcspn(value += sizeof key - 1, "\"") : sizeof id;
    if (len >= sizeof id)
        return false;
    memcpy(id, value, len);
    id[len] = '\0';
    return ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0;
}

/* It ends when its stdin does, and that is with us. */
static bool start_staying(struct command *command)
{
    int to[2];
    int from[2];
    pid_t pid;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
        return false;
    posix_spawn_file_actions_adddup2(&actions, to[0], 0);
    posix_spawn_file_actions_adddup2(&actions, from[1], 1);
    int error = posix_spawnp(&pid, command->words[0], &actions, NULL, command->words, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(to[0]);
    close(from[1]);
    command->to = fdopen(to[1], "w");
    command->from = fdopen(from[0], "r");
    return error == 0 && command->to != NULL && command->from != NULL;
}

static uint64_t time_answer(struct command *command)
{
    char answer[16] = "";
    if (command->to == NULL && !start_staying(command)) {
        command->failed = true;
        return 0;
    }
    uint64_t start = now_us();
    fprintf(command->to, "%s\n", id);
    fflush(command->to);
    command->failed = fgets(answer, sizeof answer, command->from) == NULL || strcmp(answer, "0\n") != 0;
    return now_us() - start;
}

static uint64_t time_once(struct command *command, int out)
{
    if (command->stays)
        return time_answer(command);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (command->names)
        posix_spawn_file_actions_adddup2(&actions, out, 1);
    else
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    pid_t pid;
    int status = -1;
    uint64_t start = now_us();
    if (posix_spawnp(&pid, command->words[0], &actions, NULL, command->words, environ) == 0)
        waitpid(pid, &status, 0);
    uint64_t end = now_us();
    posix_spawn_file_actions_destroy(&actions);
    command->failed = status != 0 || (command->names && !take_id(out));
    return end - start;
}

static void print_times(const struct command *command, unsigned rounds)
{
    putchar('[');
    for (unsigned round = 0; !command->failed && round < rounds; round++)
        printf("%s%llu", round > 0 ? "," : "", (unsigned long long)command->times[round]);
    putchar(']');
}

static int become(char **argv)
{
    if (chroot(argv[0]) < 0 || chdir("/") < 0) {
        perror(argv[0]);
        return 127;
    }
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    return 127;
}

int main(int argc, char **argv)
{
    static struct command commands[COMMANDS_MAX];
    unsigned rounds = 0;
    size_t count = 0;
    char *line = NULL;
    size_t size = 0;
    if (argc > 3 && strcmp(argv[1], "--in") == 0)
        return become(argv + 2);
    for (const char *p = argc == 2 ? argv[1] : ""; *p >= '0' && *p <= '9' && rounds < ROUNDS_MAX; p++)
        rounds = 10 * rounds + (unsigned)(*p - '0');
    int out = memfd_create("out", MFD_CLOEXEC);
    if (rounds < 1 || rounds > ROUNDS_MAX || out < 0)
        return 2;
    while (count < COMMANDS_MAX && getline(&line, &size, stdin) > 1) {
        split(line, &commands[count]);
        commands[count++].times = calloc(rounds, sizeof(uint64_t));
        line = NULL; /* its words point into it */
        size = 0;
    }
    for (unsigned round = 0; round < rounds + WARMUP; round++)
        for (size_t i = 0; i < count; i++) {
            uint64_t taken = commands[i].failed ? 0 : time_once(&commands[i], out);
            if (round >= WARMUP)
                commands[i].times[round - WARMUP] = taken;
        }
    for (size_t i = 0; i < count; i++) {
        putchar(i == 0 ? '[' : ',');
        print_times(&commands[i], rounds);
    }
    puts("]");
    return 0;
}
