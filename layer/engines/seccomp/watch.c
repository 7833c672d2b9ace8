/* inotify_add_watch where the path is elsewhere: the program's own inotify descriptor gets the watch, so that its number,
   its mask, its queue and its limits are the kernel's. Rules: the file is found first, with the caller's rights where it is
   this machine's; the descriptor is taken from the program for the time of the call. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pump.h"

static int find_file(const struct pm_job *job)
{
    char path[PM_PATH + 1];

    snprintf(path, sizeof path, "%s%s", job->found.value, job->slash ? "/" : "");
    return pm_job_open_below(job, job->found.root, path, job->follow ? O_PATH : O_PATH | O_NOFOLLOW);
}

/* The watch's number or -errno; the file is named by a descriptor, which is followed whatever the program asked. */
static long add(const struct pm_job *job, int inotify, int file)
{
    uint32_t mask = (uint32_t)job->request->data.args[2] & ~(uint32_t)IN_DONT_FOLLOW;
    char place[32];
    int number;

    snprintf(place, sizeof place, "/proc/self/fd/%d", file);
    number = inotify_add_watch(inotify, place, mask);
    return number < 0 ? -errno : number;
}

void pm_job_carry_watch(const struct pm_job *job)
{
    int inotify = pm_take_descriptor((pid_t)job->request->pid, (int)job->request->data.args[0]), file;
    long done = inotify < 0 ? -errno : pm_job_valid(job) ? pm_job_put_on(job) : -ESRCH;

    if (!done) {
        file = find_file(job);
        done = file < 0 ? file : add(job, inotify, file);
        pm_job_take_off(job);
        if (file >= 0)
            close(file);
    }
    if (inotify >= 0)
        close(inotify);
    pm_job_return(job, done);
}
