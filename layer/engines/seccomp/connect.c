/* Connecting a socket. Rules: the program's own socket is connected, to its relay; its call returns as the
   kernel's would, also when it does not wait for the end: a signal or a time limit ends the wait, and
   connecting goes on. No thread waits: not for Python's answer, and what takes long in the kernel takes it in the
   program's own call. What the kernel refuses is left to it, so that the errno is the kernel's. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "parked.h"

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

static int under_way(long long failed)
{
    return failed == -EINPROGRESS || failed == -EALREADY || failed == -EINTR;
}

/* A relay is there at once. Another address may take minutes: then connecting is begun here, and the program's own call,
   left alone, waits for the end; the kernel looks at no address while a socket connects. 0, UNTOUCHED or -errno. */
static long long reach(const struct taken *taken, const struct pm_address *address, int relay)
{
    struct timeval moment = {0, 1}, kept = {0};
    socklen_t size = sizeof kept;
    int slow = !relay && taken->blocking && taken->transport == PM_TCP;
    long long failed;

    if (slow) {
        getsockopt(taken->fd, SOL_SOCKET, SO_SNDTIMEO, &kept, &size);
        setsockopt(taken->fd, SOL_SOCKET, SO_SNDTIMEO, &moment, sizeof moment);
    }
    failed = connect(taken->fd, (void *)address->bytes, address->size) < 0 ? -errno : 0;
    if (slow)
        setsockopt(taken->fd, SOL_SOCKET, SO_SNDTIMEO, &kept, sizeof kept);
    return slow && under_way(failed) ? UNTOUCHED : failed;
}

/* To where the answer says. 0, UNTOUCHED or -errno. */
static long long join(struct worker *worker, struct parked *call)
{
    const struct taken *taken = &call->taken;
    struct pm_name *name = &call->name;
    struct pm_address words;
    long long failed;
    int at = 0, refused;

    if (!pm_unpack(&call->found, &at, &name->relay) || !pm_unpack(&call->found, &at, &words) ||
        !pm_unpack(&call->found, &at, &name->name))
        return -EIO;
    failed = reach(taken, &name->relay, words.size > 0);
    if (failed < 0 && !under_way(failed))
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

/* Put to Python; call->go_on is next. */
static void ask(struct worker *worker, struct parked *call)
{
    pm_question question = pm_question_of(worker, &call->taken, PM_CONNECT, &call->name.peer);

    question.again = call->again;
    question.blocking = call->taken.blocking && !call->told;
    call->interruptible = question.blocking && call->taken.transport != PM_UDP;
    pm_park_asking(worker->pump, call, &question);
}

/* `result` is what the program's call returns; of TCP Fast Open what it sent. */
static void finish(struct worker *worker, struct parked *call, long long result)
{
    if (result == UNTOUCHED)
        pm_leave_alone(worker);
    else if (worker->job.caught->op == OP_CONNECT)
        pm_job_return(&worker->job, result);
    else
        pm_job_return(&worker->job, result ? result : pm_send_first(worker, &call->taken));
    pm_parked_end(call);
}

/* The program's connect is given up, but connecting goes on, as in the kernel: the program may poll, or ask again.
   So it is begun now, to its relay or by itself. Of a unix socket the kernel begins nothing either. */
static void given_up(struct worker *worker, struct parked *call)
{
    int verdict = call->found.verdict;
    long long failed = 0;

    if (verdict == PM_ERRNO)
        failed = -call->found.code;
    else if (verdict == PM_ADDRESS && pm_job_valid(&worker->job))
        failed = join(worker, call);
    else if (verdict == PM_CONTINUE && call->taken.transport == PM_TCP && pm_job_valid(&worker->job))
        failed = reach(&call->taken, &call->name.peer, 0);
    finish(worker, call, failed < 0 ? failed : -call->told);
}

/* The wait of a connect that was given up before, taken up again: it is joined already. */
static long long take_up(struct worker *worker, struct parked *call)
{
    const struct sockaddr none = {.sa_family = AF_UNSPEC};
    struct pm_address relay, words;
    int at = 0;

    if (call->code)
        return -call->code;
    if (call->found.verdict == PM_ERRNO) {
        connect(call->taken.fd, &none, sizeof none);
        pm_names_drop(worker->pump->names, call->taken.socket);
        return -call->found.code;
    }
    call->name.pending = 0;
    if (pm_unpack(&call->found, &at, &relay) && pm_unpack(&call->found, &at, &words))
        pm_unpack(&call->found, &at, &call->name.name);
    pm_names_put(worker->pump->names, &call->name);
    return 0;
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

/* Python has answered, or the wait is given up. */
static void answered(struct worker *worker, struct parked *call)
{
    int verdict = call->found.verdict;

    worker->pump->counters[PM_CARRIED] += verdict == PM_ADDRESS;
    if (!pm_job_valid(&worker->job)) {
        pm_parked_end(call);
    } else if (call->again) {
        finish(worker, call, take_up(worker, call));
    } else if (call->code) {
        call->told = call->code;
        call->found.verdict = PM_ASK;
        call->again = call->name.pending = 1;
        call->until = 0;
        call->go_on = given_up;
        ask(worker, call);
    } else if (verdict == PM_ADDRESS) {
        finish(worker, call, join(worker, call));
    } else if (verdict == PM_ERRNO) {
        finish(worker, call, -call->found.code);
    } else {
        forget(worker, &call->taken, &call->name.peer);
        finish(worker, call, UNTOUCHED);
    }
}

/* Was a connect to there given up before? Then `name` is what is known of it. */
static int is_pending(const struct worker *worker, const struct taken *taken, const struct pm_address *peer,
                      struct pm_name *name)
{
    struct pm_name known;

    if (!taken->blocking || !pm_names_find(worker->pump->names, taken->socket, &known) || !known.pending ||
        known.peer.size != peer->size || memcmp(known.peer.bytes, peer->bytes, peer->size) != 0)
        return 0;
    *name = known;
    return 1;
}

/* 1: the call and its descriptor are taken over; 0: it is the kernel's. */
int pm_connect(struct worker *worker, const struct taken *taken, const struct pm_address *peer)
{
    struct pm_name name = {.socket = taken->socket, .peer = *peer};
    int again = is_pending(worker, taken, peer, &name);
    long long limit = taken->blocking ? pm_limit(taken->fd, SO_SNDTIMEO) : 0;
    struct parked *call;

    if (!again && !is_a_question(worker, taken, peer))
        return 0;
    call = pm_parked_new(worker, taken);
    if (!call) {
        pm_job_return(&worker->job, -ENOBUFS);
        close(taken->fd);
        return 1;
    }
    call->name = name;
    call->again = again;
    call->until = limit && taken->transport != PM_UDP ? pm_now() + limit : 0;
    call->late = EINPROGRESS;
    call->go_on = answered;
    ask(worker, call);
    return 1;
}

void pm_serve_connect(struct worker *worker)
{
    struct pm_address peer;
    struct taken taken;

    if (!pm_read_address(worker, arg(worker, 1), (uint32_t)arg(worker, 2), &peer) || !pm_take(worker, &taken)) {
        pm_leave_alone(worker);
        return;
    }
    pm_fit(&peer, &taken);
    if (pm_connect(worker, &taken, &peer))
        return;
    forget(worker, &taken, &peer);
    pm_leave_alone(worker);
    close(taken.fd);
}
