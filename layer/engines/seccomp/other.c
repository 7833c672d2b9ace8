/* Calls that take a path and are carried out nowhere but on this machine. Rules: what stays here goes on untouched; the
   rest fails with what Python says, which knows the call by its name. So no such call is quietly about this machine's
   file of that name. A relative path is the kernel's, wherever the program is. */
#include <string.h>
#include <sys/syscall.h>

#include "pump.h"

static const struct {
    int nr;
    const char *name;
} NAMES[] = {
    {SYS_chroot, "chroot"},
    {SYS_execve, "execve"},
    {SYS_execveat, "execveat"},
    {SYS_fanotify_mark, "fanotify_mark"},
    {SYS_mount, "mount"},
    {SYS_name_to_handle_at, "name_to_handle_at"},
    {SYS_pivot_root, "pivot_root"},
    {SYS_umount2, "umount2"},
    {PM_SYS_open_tree, "open_tree"},
    {PM_SYS_move_mount, "move_mount"},
    {PM_SYS_fspick, "fspick"},
    {PM_SYS_mount_setattr, "mount_setattr"},
    {PM_SYS_setxattrat, "setxattrat"},
    {PM_SYS_getxattrat, "getxattrat"},
    {PM_SYS_listxattrat, "listxattrat"},
    {PM_SYS_removexattrat, "removexattrat"},
    {PM_SYS_open_tree_attr, "open_tree_attr"},
    {PM_SYS_file_getattr, "file_getattr"},
    {PM_SYS_file_setattr, "file_setattr"},
};

const char *pm_other_name(int nr)
{
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (NAMES[i].nr == nr)
            return NAMES[i].name;
    return "";
}

/* Both paths of a call that has two: the first that may not go on decides. */
void pm_serve_other(struct worker *worker)
{
    struct pm_job *job = &worker->job;
    int arguments[] = {job->caught->path, job->caught->other}, follow, slash, alone;

    pm_job_classify(job);
    follow = job->follow;
    for (int i = 0; i < (job->caught->other ? 2 : 1); i++) {
        if (pm_look(worker, arguments[i], follow, &slash, &alone) <= 0)
            continue; /* no path, or nobody waits for it any more: the kernel says which */
        if (job->found.verdict == PM_ERRNO) {
            worker->pump->counters[PM_CARRIED]++;
            pm_job_return(job, -job->found.code);
            return;
        }
    }
    pm_leave_alone(worker);
}
