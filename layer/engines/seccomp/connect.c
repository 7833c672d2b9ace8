/* Connecting a socket. Rules: the program's own socket is connected, to its relay; its call returns as the
   kernel's would, also when it does not wait for the end: a signal or a time limit ends the wait, and
   connecting goes on. What the kernel refuses is left to it, so that the errno is the kernel's. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "sockets.h"

#define SLICE 30000 /* us between two looks at the thread that waits */
#define INTRODUCE_LIMIT 1000 /* ms; a relay on loopback is there at once or not at all */

/* Before the program can write, for its call has not returned. 0 or -errno. */
static int introduce(const struct taken *taken, const struct pm_address *words)
{
    struct pollfd ready = {.fd = taken->fd, .events = POLLOUT};

    if (words->size == 0)
        return 0;
    if (poll(&ready, 1, INTRODUCE_LIMIT) <= 0 || !(ready.revents & POLLOUT) || ready.revents & (POLLERR | POLLHUP))
        return -ECONNREFUSED;
    if (send(taken->fd, words->bytes, words->size, MSG_NOSIGNAL | MSG_DONTWAIT) != words->size)
        return -ECONNREFUSED;
    return 0;
}

/* A blocking connect may take minutes: a signal ends the wait, as in the kernel, and SO_SNDTIMEO does. */
static int look(struct worker *worker)
{
    if (!pm_job_valid(&worker->job))
        return ESRCH;
    if (worker->pump->stopping)
        return EIO;
    if (worker->until && pm_now() >= worker->until)
        return EINPROGRESS;
    return -pm_interrupted((pid_t)worker->request.pid, worker->until != 0);
}

/* A relay is there at once. Another address may take minutes, so the kernel waits in slices, and the socket is
   connecting when a wait is given up, as ever. 0 or -errno. */
static long long reach(struct worker *worker, const struct taken *taken, const struct pm_address *address, int relay)
{
    struct timeval slice = {0, SLICE}, kept = {0};
    socklen_t size = sizeof kept;
    int slow = !relay && taken->blocking && taken->transport == PM_TCP, code = 0;
    long long failed;

    if (slow) {
        long long limit = pm_limit(taken->fd, SO_SNDTIMEO);

        worker->until = limit ? pm_now() + limit : 0;
        getsockopt(taken->fd, SOL_SOCKET, SO_SNDTIMEO, &kept, &size);
        setsockopt(taken->fd, SOL_SOCKET, SO_SNDTIMEO, &slice, sizeof slice);
    }
    do
        failed = connect(taken->fd, (void *)address->bytes, address->size) < 0 ? -errno : 0;
    while (slow && (failed == -EINPROGRESS || failed == -EALREADY) && !(code = look(worker)));
    if (slow)
        setsockopt(taken->fd, SOL_SOCKET, SO_SNDTIMEO, &kept, sizeof kept);
    return code ? -code : failed;
}

static int goes_on(long long failed)
{
    return failed == 0 || failed == -EINPROGRESS || failed == -EALREADY || failed == -EINTR || failed == -RESTART;
}

static long long join(struct worker *worker, const struct taken *taken, struct pm_name *name)
{
    struct pm_address words;
    long long failed;
    int at = 0, refused;

    if (!pm_unpack(&worker->job.found, &at, &name->relay) || !pm_unpack(&worker->job.found, &at, &words) ||
        !pm_unpack(&worker->job.found, &at, &name->name))
        return -EIO;
    failed = reach(worker, taken, &name->relay, words.size > 0);
    if (!goes_on(failed))
        return failed;
    pm_names_put(worker->pump->names, name);
    refused = introduce(taken, &words);
    return refused ? refused : failed;
}

/* Is a connect over, or under way? Then the next is the kernel's to answer. */
static int begun(const struct taken *taken)
{
    unsigned char state = 0; /* the first byte of tcp_info */
    socklen_t size = sizeof state;

    if (taken->transport == PM_TCP && getsockopt(taken->fd, IPPROTO_TCP, TCP_INFO, &state, &size) == 0 &&
        (state == TCP_SYN_SENT || state == TCP_SYN_RECV))
        return 1;
    return taken->transport != PM_UDP && pm_connected(taken->fd);
}

/* Is it Python's to say where this goes? */
static int is_a_question(const struct worker *worker, const struct taken *taken, const struct pm_address *peer)
{
    if (!pm_well_formed(peer, taken->domain) || begun(taken))
        return 0;
    return !pm_skipped((pid_t)worker->request.pid, worker->pump->skip, worker->pump->skips);
}

/* again: the question of before, whose answer nobody waited for. */
void pm_ask_socket(struct worker *worker, const struct taken *taken, int kind, const struct pm_address *peer,
                   int again)
{
    pm_question question = {.kind = kind, .size = peer->size, .path = (const char *)peer->bytes,
                            .domain = taken->domain, .transport = taken->transport,
                            .blocking = taken->blocking && pm_waiting < MOST_WAITING, .device = taken->device,
                            .again = again, .socket = taken->socket};
    long long limit = taken->blocking ? pm_limit(taken->fd, SO_SNDTIMEO) : 0;

    pm_waiting++;
    worker->until = limit ? pm_now() + limit : 0;
    worker->look = taken->blocking && taken->transport != PM_UDP ? look : NULL;
    pm_put(worker, &question);
    worker->look = NULL;
    pm_waiting--;
}

/* The program's connect is given up with `code`, but connecting goes on, as in the kernel: the program may
   poll, or ask again. So the socket gets its relay now. */
static long long go_on(struct worker *worker, struct taken *taken, struct pm_name *name, int code)
{
    int blocking = taken->blocking;
    long long failed;

    taken->blocking = 0;
    pm_ask_socket(worker, taken, PM_CONNECT, &name->peer, 1);
    taken->blocking = blocking;
    if (worker->job.found.verdict != PM_ADDRESS || !pm_job_valid(&worker->job))
        return -(worker->job.found.verdict == PM_ERRNO ? worker->job.found.code : code);
    name->pending = 1;
    failed = join(worker, taken, name);
    return failed ? failed : -code;
}

/* The wait of a connect that was given up before, taken up again: it is joined already. */
static long long take_up(struct worker *worker, const struct taken *taken, struct pm_name *name)
{
    const struct sockaddr none = {.sa_family = AF_UNSPEC};
    struct pm_address relay, words;
    int at = 0;

    if (worker->gave_up)
        return -worker->job.found.code;
    if (worker->job.found.verdict == PM_ERRNO) {
        connect(taken->fd, &none, sizeof none);
        pm_names_drop(worker->pump->names, taken->socket);
        return -worker->job.found.code;
    }
    name->pending = 0;
    if (pm_unpack(&worker->job.found, &at, &relay) && pm_unpack(&worker->job.found, &at, &words))
        pm_unpack(&worker->job.found, &at, &name->name);
    pm_names_put(worker->pump->names, name);
    return 0;
}

static int is_pending(const struct worker *worker, const struct taken *taken, const struct pm_address *peer,
                      struct pm_name *name)
{
    return taken->blocking && pm_names_find(worker->pump->names, taken->socket, name) && name->pending &&
           name->peer.size == peer->size && memcmp(name->peer.bytes, peer->bytes, peer->size) == 0;
}

/* 1: `result` is what the program's connect returns; 0: it goes on untouched. */
int pm_connect(struct worker *worker, struct taken *taken, const struct pm_address *peer, long long *result)
{
    struct pm_found *found = &worker->job.found;
    struct pm_name name = {0};
    int pending = is_pending(worker, taken, peer, &name);

    if (!pending && !is_a_question(worker, taken, peer))
        return 0;
    pm_ask_socket(worker, taken, PM_CONNECT, peer, pending);
    worker->pump->counters[PM_CARRIED] += found->verdict == PM_ADDRESS;
    if (!pending)
        name = (struct pm_name){.socket = taken->socket, .peer = *peer};
    if (!pm_job_valid(&worker->job))
        *result = -ESRCH;
    else if (pending)
        *result = take_up(worker, taken, &name);
    else if (worker->gave_up && found->code != EIO)
        *result = go_on(worker, taken, &name, found->code);
    else if (found->verdict == PM_ADDRESS)
        *result = join(worker, taken, &name);
    else if (found->verdict == PM_ERRNO)
        *result = -found->code;
    else
        return 0;
    return 1;
}

/* A connect that the kernel does: to no address at all it ends what the socket was connected to. */
static void forget(struct worker *worker, const struct taken *taken, const struct pm_address *peer)
{
    sa_family_t family;

    memcpy(&family, peer->bytes, sizeof family);
    if (family == AF_UNSPEC)
        pm_names_drop_all(worker->pump->names, taken->socket);
    else if (!begun(taken))
        pm_names_drop(worker->pump->names, taken->socket);
}

void pm_serve_connect(struct worker *worker)
{
    struct pm_address peer;
    struct taken taken;
    long long result;

    if (!pm_read_address(worker, arg(worker, 1), (uint32_t)arg(worker, 2), &peer) || !pm_take(worker, &taken)) {
        pm_leave_alone(worker);
        return;
    }
    pm_fit(&peer, &taken);
    if (pm_connect(worker, &taken, &peer, &result)) {
        pm_job_return(&worker->job, result);
    } else {
        forget(worker, &taken, &peer);
        pm_leave_alone(worker);
    }
    close(taken.fd);
}
