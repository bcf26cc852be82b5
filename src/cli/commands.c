/* SPDX-License-Identifier: Apache-2.0 */
/* The tables: every command, every option, every word of help. */
#include <stddef.h>

#include "cli/cli.h"

const struct option cli_global_options[] = {
    {"log-level", "LEVEL", "debug, info, warn or error (AGENT_LOG_LEVEL)", "debug|info|warn|error", false, false},
    {"log-file", "FILE", "mirror log lines to this file (AGENT_LOG_FILE)", "<file>", false, false},
    {"state-dir", "DIR", "where VMs, images and volumes are kept (AGENT_STATE_DIR)", "<file>", false, false},
    {0},
};

const struct option create_options[] = {
    {"language", "LANGUAGE", "python or node (also javascript, js)", "python|node|javascript|js", false, false},
    {"from", "SNAPSHOT", "go on from a snapshot, instead of --language; only --env goes with it", NULL, false, false},
    {"cpu", "N", "CPUs it may use, 1 to 256 (1)", NULL, false, false},
    {"mem", "MIB", "memory, 32 to 1048576 MiB; half of it at most for files (256)", NULL, false, false},
    {"pids", "N", "processes and threads at once, 16 to 65536 (512)", NULL, false, false},
    {"network", "MODE", "none or allow_all (none)", "none|allow_all", false, false},
    {"image", "REF", "image to start from (the language's own)", NULL, false, false},
    {"persist", NULL, "with a volume of its own at /workspace/persist", NULL, false, false},
    {"volume", "NAME", "with a kept volume at /workspace/persist", NULL, false, false},
    {"disk", "MIB", "size of the volume, 16 to 1048576 MiB (1024)", NULL, false, false},
    {"launcher", "LAUNCHER", "auto, namespace or microvm (AGENT_LAUNCHER, auto)", "auto|namespace|microvm", false,
     false},
    {"kernel", "FILE", "kernel to boot instead of Debian's, by the launcher microvm (AGENT_KERNEL)", "<file>", false,
     false},
    {"best-effort", NULL, "go on where this host cannot enforce a limit", NULL, false, false},
    {"env", "K=V", "variable of every command in the VM", NULL, false, true},
    {0},
};

const struct option run_options[] = {
    {"cmd", "COMMAND", "command line for /bin/sh -c", NULL, true, false},
    {"file", "PATH", "host file to stage as /workspace/in/<basename>", "<file>", false, true},
    {"timeout", "S", "seconds until the command and its children are killed (30)", NULL, false, false},
    {"workdir", "DIR", "working directory (/workspace)", NULL, false, false},
    {"stdin", NULL, "pass our stdin to the command", NULL, false, false},
    {0},
};

static const struct option vm_only[] = {{"vm", "ID", "the VM", NULL, true, false}, {0}};

static const struct option run_vm_options[] = {
    {"vm", "ID", "the VM; a stopped one is started", NULL, true, false},
    {"env", "K=V", "variable of the command", NULL, false, true},
    {0},
};

static const struct option exec_options[] = {
    {"vm", "ID", "a VM; several run side by side", NULL, false, true},
    {"all", NULL, "all running VMs", NULL, false, false},
    {"cmd", "COMMAND", "command line for /bin/sh -c; or give -- ARGV", NULL, false, false},
    {"timeout", "S", "seconds until the command and its children are killed (30)", NULL, false, false},
    {"env", "K=V", "variable of the command", NULL, false, true},
    {"workdir", "DIR", "working directory (/workspace)", NULL, false, false},
    {0},
};

static const struct option shell_options[] = {
    {"vm", "ID", "the VM; a stopped one is started", NULL, true, false},
    {"cmd", "COMMAND", "what to run on the terminal (/bin/bash)", NULL, false, false},
    {0},
};

static const struct option vm_list_options[] = {
    {"status", "STATUS", "only VMs of this status", "provisioning|ready|running|paused|stopped|failed", false, false},
    {"all", NULL, "also stopped and failed VMs", NULL, false, false},
    {"quiet", NULL, "print ids only (-q)", NULL, false, false},
    {"output", "FORMAT", "json or table (table on a terminal)", "json|table", false, false},
    {0},
};

static const struct option logs_options[] = {
    {"vm", "ID", "the VM", NULL, true, false},
    {"run", "ID", "the run (the newest)", NULL, false, false},
    {"stderr", NULL, "its stderr instead of its stdout", NULL, false, false},
    {"follow", NULL, "go on until the run ends", NULL, false, false},
    {0},
};

static const struct option stop_options[] = {
    {"vm", "ID", "a VM", NULL, false, true},
    {"all", NULL, "all VMs", NULL, false, false},
    {0},
};

static const struct option snapshot_options[] = {
    {"vm", "ID", "the VM", NULL, true, false},
    {"name", "NAME", "of the snapshot", NULL, true, false},
    {0},
};

static const struct option fork_options[] = {
    {"vm", "ID", "the VM", NULL, true, false},
    {"count", "N", "how many, 1 to 100 (1)", NULL, false, false},
    {0},
};

static const struct option pause_options[] = {
    {"vm", "ID", "a VM", NULL, false, true},
    {"all", NULL, "all VMs", NULL, false, false},
    {0},
};

static const struct option clean_options[] = {
    {"vm", "ID", "a VM", NULL, false, true},
    {"all", NULL, "all VMs", NULL, false, false},
    {"keep-persist", NULL, "keep its volume", NULL, false, false},
    {0},
};

static const struct option build_options[] = {
    {"rebuild", NULL, "build anew when it is there", NULL, false, false},
    {"template", NULL, "also boot the machine that VMs of the launcher microvm are copied from", NULL, false, false},
    {"cpu", "N", "with --template: of VMs with as many CPUs (1)", NULL, false, false},
    {"mem", "MIB", "with --template: of VMs with as much memory (256)", NULL, false, false},
    {"network", "MODE", "with --template: of VMs with this network (none)", "none|allow_all", false, false},
    {"kernel", "FILE", "with --template: of VMs with this kernel (AGENT_KERNEL)", "<file>", false, false},
    {0},
};

static const struct option import_options[] = {
    {"name", "REF", "reference to keep it under (the one in the archive)", NULL, false, false},
    {0},
};

static const struct option output_options[] = {
    {"output", "FORMAT", "json or table (table on a terminal)", "json|table", false, false},
    {0},
};

static const struct option serve_options[] = {
    {"listen", "ADDR:PORT", "where to listen (PORT, 127.0.0.1:8787)", NULL, false, false},
    {"api-key-file", "FILE", "keys, one a line, beside those of AGENT_API_KEY", "<file>", false, false},
    {"insecure-no-auth", NULL, "listen elsewhere than on loopback without a key", NULL, false, false},
    {"cors-origin", "ORIGIN", "an origin whose pages may call", NULL, false, true},
    {"tls-cert", "FILE", "certificate chain, PEM", "<file>", false, false},
    {"tls-key", "FILE", "its key, PEM", "<file>", false, false},
    {"max-connections", "N", "connections at once (12000)", NULL, false, false},
    {"max-runs", "N", "commands in flight at once (1024)", NULL, false, false},
    {"max-body", "MIB", "size of a JSON body (16)", NULL, false, false},
    {"max-header", "KIB", "size of request line and headers, 4 to 64 (8)", NULL, false, false},
    {"request-timeout", "S", "seconds until a body must be there; of a file, some more of it (30)", NULL, false, false},
    {"idle-timeout", "S", "seconds that a connection may wait for its next request (75)", NULL, false, false},
    {"grace", "S", "seconds that SIGTERM gives to what runs (30)", NULL, false, false},
    {"workers", "N", "VMs that are created, stopped or deleted at once (12)", NULL, false, false},
    {0},
};

const struct command cli_commands[] = {
    {"vm", "create", "boot a VM that keeps running", NULL, 0, false, false,
     "Creates a VM and prints it as one JSON object. The VM outlives this command. A missing default image is built "
     "first.\nThe guest is root inside and nobody outside. Its root file system can be written; what is written there "
     "is held in its memory and lasts until it stops.",
     "agent vm create --language python --mem 512 --persist", create_options, NULL, vm_create},
    {"vm", "run", "run a command and keep its output in files", NULL, 0, false, true,
     "Runs a command line by /bin/sh -c and prints one JSON object with its verdict and the paths of its output. "
     "Exits as the command did; 124 when it timed out, 125 when the agent failed.",
     "agent vm run --vm ID --file hello.py --cmd 'python in/hello.py'", run_vm_options, run_options, vm_run},
    {"vm", "exec", "run a command with our own stdin, stdout and stderr", "[-- ARGV...]", 0, true, true,
     "Like run, but live. With -- ARGV no shell is involved. With several VMs each line is prefixed by its VM, and "
     "stdin is empty. Signals are forwarded; a second Ctrl-C kills.",
     "agent vm exec --vm ID -- python3 -c 'print(42)'", exec_options, NULL, vm_exec},
    {"vm", "shell", "an interactive terminal in a VM", NULL, 0, false, true,
     "Keys go to the guest as they are typed, Ctrl-C too. The terminal is restored when the shell ends.",
     "agent vm shell --vm ID", shell_options, NULL, vm_shell},
    {"vm", "temp", "create a VM, run a command live, clean up", NULL, 0, false, true,
     "The VM is cleaned also when the command fails, or on Ctrl-C. Prints the command's output only.",
     "agent vm temp --language node --cmd 'node -p 6*7'", create_options, run_options, vm_temp},
    {"vm", "list", "list VMs", NULL, 0, false, false,
     "Without --all and --status, stopped and failed VMs are left out. JSON is one object a line.",
     "agent vm list --all --output json", vm_list_options, NULL, vm_list},
    {"vm", "show", "all that is known of a VM", NULL, 0, false, false, "Prints one JSON object.", NULL, vm_only, NULL,
     vm_show},
    {"vm", "logs", "print the output of a run", NULL, 0, false, false,
     "Prints what a run wrote, as it was written. The logs of the newest 100 runs are kept until the VM is cleaned.",
     "agent vm logs --vm ID --follow", logs_options, NULL, vm_logs},
    {"vm", "cp", "copy a file or directory into or out of a VM", "SRC DST", 2, false, false,
     "One side is written ID:/path. A directory is copied with all that is in it; when DST is a directory, SRC goes "
     "into it. Out of a VM, links that lead out of the copy are left out.",
     "agent vm cp ID:/workspace/out/result.json .", NULL, NULL, vm_cp},
    {"vm", "stop", "stop VMs", NULL, 0, false, false,
     "Processes get SIGTERM and two seconds. What was written outside of the volume is gone. Stopping a stopped VM "
     "succeeds.",
     NULL, stop_options, NULL, vm_stop},
    {"vm", "pause", "have VMs stand still", NULL, 0, false, false,
     "Their processes do not notice, but by the clock, and the time of what runs stands still with them. A command "
     "for a paused VM is refused. Needs the microvm launcher.",
     "agent vm pause --vm ID", pause_options, NULL, vm_pause},
    {"vm", "resume", "have paused VMs go on", NULL, 0, false, false, "Resuming a VM that is not paused succeeds.", NULL,
     pause_options, NULL, vm_resume},
    {"vm", "snapshot", "save a VM as it is", NULL, 0, false, false,
     "Saves memory, processes and disks under a name; the VM goes on. agent vm create --from NAME makes VMs that go "
     "on from there. Needs the microvm launcher.",
     "agent vm snapshot --vm ID --name warm", snapshot_options, NULL, vm_snapshot},
    {"vm", "fork", "create VMs that go on where one is", NULL, 0, false, false,
     "Prints each new VM as a JSON object a line. Each has an id, a hostname, randomness of the kernel and a copy of "
     "the volume of its own; what a process has in its memory is the same in all of them. Needs the microvm launcher.",
     "agent vm fork --vm ID --count 20", fork_options, NULL, vm_fork},
    {"vm", "clean", "stop VMs and remove all of them", NULL, 0, false, false,
     "Removes everything that a VM left on the host, and its record. Its volume goes too, unless --keep-persist is "
     "given.",
     "agent vm clean --all", clean_options, NULL, vm_clean},
    {"image", "build", "build the image of a language", "LANGUAGE", 1, false, false,
     "LANGUAGE is python (Python 3.11 and pip) or node (Node.js 20 and npm). From signed Debian packages, and Node's "
     "own package, whose integrity is checked. An image that is there is left as it is.",
     "agent image build python", build_options, NULL, image_build},
    {"image", "pull", "fetch an image from a registry", "REF", 1, false, false,
     "Fetches an OCI or docker image by skopeo.", "agent image pull localhost:5000/tools/python:3.12", NULL, NULL,
     image_pull},
    {"image", "import", "take an image from an archive", "FILE", 1, false, false,
     "FILE is an OCI layout (a folder, or a tar of one) or an archive of docker save.",
     "agent image import image.tar --name mine/tools:1", import_options, NULL, image_import},
    {"image", "list", "list images", NULL, 0, false, false, "JSON is one object a line.", NULL, output_options, NULL,
     image_list},
    {"image", "remove", "remove an image", "REF", 1, false, false, "Refused while a VM was made from it.", NULL, NULL,
     NULL, image_remove},
    {"snapshot", "list", "list snapshots", NULL, 0, false, false, "JSON is one object a line.", NULL, output_options,
     NULL, snapshot_list},
    {"snapshot", "remove", "remove a snapshot", "NAME", 1, false, false, "VMs that were made from it are not touched.",
     NULL, NULL, NULL, snapshot_remove},
    {"volume", "list", "list volumes", NULL, 0, false, false, "JSON is one object a line.", NULL, output_options, NULL,
     volume_list},
    {"volume", "remove", "remove a volume", "NAME", 1, false, false, "Refused while a VM has it.", NULL, NULL, NULL,
     volume_remove},
    {NULL, "serve", "serve the HTTP API", NULL, 0, false, false,
     "Serves the same VMs by HTTP: JSON in, JSON out; GET /openapi.json describes it. Plain agent does the same when "
     "AGENT_MODE is http or server.\nCallers send Authorization: Bearer KEY when there is a key; without one the "
     "server listens on loopback only, unless --insecure-no-auth is given. SIGTERM ends it when what runs has ended, "
     "SIGHUP has keys and certificate read again. Stopping or killing it touches no VM.",
     "AGENT_API_KEY=secret agent serve --listen 0.0.0.0:8787", serve_options, NULL, serve},
    {NULL, "doctor", "what this host can do", NULL, 0, false, false,
     "Looks at kernel features, control groups, KVM, tools and the state directory, and says which launcher auto "
     "picks and why. Exits 1 when no launcher works.",
     NULL, output_options, NULL, doctor},
    {NULL, "version", "print the version", NULL, 0, false, false, "Prints one JSON object.", NULL, NULL, NULL, version},
    {NULL, "completion", "print a completion script", "SHELL", 1, false, false, "SHELL is bash.",
     "source <(agent completion bash)", NULL, NULL, completion},
    {0},
};
