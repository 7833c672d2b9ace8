/* Binding a socket, and listening. Rules: the program's own socket is bound, to the first address of the answer that the
   kernel takes, with no more rights than the program has; it shows the one that was asked for. The kernel
   does the listening, once Python has let it go on. No thread waits meanwhile, and a signal makes the program ask again. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "parked.h"

#define FIRST_FREE "/proc/sys/net/ipv4/ip_unprivileged_port_start"
#define USUAL_FIRST 1024

/* The first port that needs no right. */
static int first_free(void)
{
    int fd = open(FIRST_FREE, O_RDONLY | O_CLOEXEC);
    char text[16];
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0)
        close(fd);
    if (size <= 0)
        return USUAL_FIRST;
    text[size] = 0;
    return atoi(text);
}

static int port_of(const struct pm_address *address)
{
    struct sockaddr_in four; /* the port is at the same place in both families */

    memcpy(&four, address->bytes, sizeof four);
    return ntohs(four.sin_port);
}

/* The kernel looks at our rights, which may be more than the program has. */
static int may_bind(struct worker *worker, int port)
{
    struct pm_rights *caller = &worker->job.caller;
    char process[32];

    if (port == 0 || port >= first_free())
        return 1;
    snprintf(process, sizeof process, "/proc/%u", worker->request.pid);
    return pm_rights_read(process, caller) && pm_job_valid(&worker->job) &&
           pm_rights_include(&worker->pump->own, caller, CAP_NET_BIND_SERVICE);
}

/* 0 or -errno. */
static int bind_to(struct worker *worker, const struct taken *taken, const struct pm_address *address)
{
    if (!may_bind(worker, port_of(address)))
        return -EACCES;
    if (bind(taken->fd, (const void *)address->bytes, address->size) == 0)
        return 0;
    if (errno != EADDRINUSE)
        return -errno;
    pm_parked_shed(worker->pump);
    return bind(taken->fd, (const void *)address->bytes, address->size) < 0 ? -errno : 0;
}

/* To the first of the answer's addresses that can be had. 0, or the last one's -errno. */
static int bind_to_first(struct worker *worker, const struct parked *call)
{
    struct pm_address address;
    int at = 0, failed = -EIO;

    while (failed && pm_unpack(&call->found, &at, &address))
        failed = bind_to(worker, &call->taken, &address);
    if (!failed)
        pm_names_put(worker->pump->bound, &call->name);
    return failed;
}

/* Python has answered, or a signal came. The socket is let go of first: the program may close it at once, to bind
   another. */
static void answered(struct worker *worker, struct parked *call)
{
    long long result = UNTOUCHED;

    if (call->code)
        result = call->code == RESTART ? -RESTART_ALWAYS : -call->code;
    else if (call->found.verdict == PM_ERRNO)
        result = -call->found.code;
    else if (call->found.verdict == PM_TRIES && pm_job_valid(&worker->job))
        result = bind_to_first(worker, call);
    worker->pump->counters[PM_CARRIED] += call->found.verdict == PM_TRIES;
    pm_parked_end(call);
    if (result == UNTOUCHED)
        pm_leave_alone(worker);
    else
        pm_job_return(&worker->job, result);
}

/* Where the socket really is. 0: it has no port. */
static int own_address(int fd, struct pm_address *own)
{
    socklen_t size = sizeof own->bytes;

    if (getsockname(fd, (void *)own->bytes, &size) < 0)
        return 0;
    own->size = (unsigned char)size;
    return port_of(own) != 0;
}

static int shares_port(int fd)
{
    int value = 0;
    socklen_t size = sizeof value;

    return getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, &size) == 0 && value;
}

/* Put to Python; bound: NULL for a socket that is not. The descriptor is taken over. */
static void ask(struct worker *worker, const struct taken *taken, int kind, const struct pm_name *name,
                const struct pm_address *bound)
{
    struct parked *call = pm_parked_new(worker, taken);
    pm_question question;

    if (!call) {
        close(taken->fd);
        pm_job_return(&worker->job, -ENOBUFS);
        return;
    }
    call->name = *name;
    call->interruptible = call->restarts = 1;
    call->go_on = answered;
    question = pm_question_of(worker, taken, kind, &call->name.name);
    question.shares_port = shares_port(taken->fd);
    if (bound) {
        question.bound_size = bound->size;
        memcpy(question.bound, bound->bytes, bound->size);
    }
    pm_park_asking(worker->pump, call, &question);
}

static int left_alone(const struct worker *worker)
{
    return pm_skipped((pid_t)worker->request.pid, worker->pump->skip, worker->pump->skips);
}

void pm_serve_bind(struct worker *worker)
{
    struct pm_name name = {0};
    struct pm_address own;
    struct taken taken;

    if (!pm_read_own(worker, arg(worker, 1), (uint32_t)arg(worker, 2), &name.name) || !pm_take(worker, &taken)) {
        pm_leave_alone(worker);
        return;
    }
    name.socket = taken.socket;
    if (taken.transport == PM_TCP && pm_well_formed(&name.name, taken.domain) && port_of(&name.name) &&
        !own_address(taken.fd, &own) && !left_alone(worker)) {
        ask(worker, &taken, PM_BIND, &name, NULL);
        return;
    }
    close(taken.fd);
    pm_leave_alone(worker);
}

void pm_serve_listen(struct worker *worker)
{
    struct pm_address own;
    struct pm_name name;
    struct taken taken;

    if (!pm_names_any(worker->pump->bound) || !pm_take(worker, &taken)) {
        pm_leave_alone(worker);
        return;
    }
    if (pm_names_find(worker->pump->bound, taken.socket, &name) && own_address(taken.fd, &own) &&
        !pm_connected(taken.fd) && !left_alone(worker)) {
        ask(worker, &taken, PM_LISTEN, &name, &own);
        return;
    }
    close(taken.fd);
    pm_leave_alone(worker);
}
