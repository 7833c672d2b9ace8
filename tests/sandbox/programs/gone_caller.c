/* A change whose caller goes while its memory is read, tried with change.c alone: gone_caller FOLDER → one line per
   case. The rest of the engine is what is below: memory that reads as text, and an id that is good or is not. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "parts.h"

static int folder, valid, read_it;
static long long answer;

int pm_read(pid_t pid, uint64_t address, void *into, size_t size)
{
    memset(into, 'x', size);
    read_it = 1;
    return 0;
}

int pm_read_string(pid_t pid, uint64_t address, char *into, size_t size)
{
    read_it = 1;
    return snprintf(into, size, "user.another's");
}

int pm_job_valid(const struct pm_job *job) { return read_it ? valid : 1; }
void pm_job_return(const struct pm_job *job, long long value) { answer = value; }
int pm_job_put_on(const struct pm_job *job) { return 0; }
int pm_job_put_on_mask(const struct pm_job *job) { return 0; }
void pm_job_take_off(const struct pm_job *job) {}
int pm_rights_read(const char *process, struct pm_rights *rights) { return 1; }

int pm_job_open_below(const struct pm_job *job, int root, const char *path, uint64_t flags)
{
    return openat(folder, path, (int)flags);
}

static void says(const char *what, enum op op, int path, const char *name)
{
    static struct pm_job job;
    struct caught caught = {.op = op, .path = path};
    struct seccomp_notif request = {.data.args = {1, 1, 1, 5, 0}};

    read_it = 0;
    job.request = &request;
    job.caught = &caught;
    strcpy(job.found.value, name);
    pm_job_carry_change(&job);
    printf("%s: %lld\n", what, answer);
}

int main(int argc, char **argv)
{
    folder = open(argv[1], O_PATH | O_DIRECTORY);
    for (valid = 0; valid < 2; valid++) {
        says("symlink", OP_SYMLINK, 1, "link");
        says("utimes", OP_UTIME, 0, "file");
        says("setxattr", OP_SETXATTR, 0, "file");
    }
    return 0;
}
