/* Connects, first datagrams and receives that wait hold no thread: what is needed to go on with each is kept here, and
   one thread, the watcher, looks after all. A wait ends with Python's answer, with something to receive, with the
   call's limit of time, or with a signal: of that the kernel tells us nothing, so the watcher looks for it in turns. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "parked.h"

#define TURN 20 /* ms */
#define LOOKS 64 /* threads whose signals are looked at in a turn: about a millisecond's work */
#define PART 4 /* calls that wait for something to receive: one for so many descriptors, of which it has two */

/* With the descriptor. NULL: no memory. */
struct parked *pm_parked_new(const struct worker *worker, const struct taken *taken)
{
    struct parked *call = malloc(sizeof *call); /* the answer's room is most of it and hardly ever used */

    if (!call)
        return NULL;
    memset(call, 0, offsetof(struct parked, found));
    memset((char *)call + offsetof(struct parked, receives), 0, sizeof *call - offsetof(struct parked, receives));
    call->request = worker->request;
    call->found.verdict = PM_ASK;
    call->taken = *taken;
    call->asked.found = &call->found;
    call->asked.call = call;
    call->thread = -1;
    return call;
}

void pm_parked_drop(struct parked *call)
{
    if (call->thread >= 0)
        close(call->thread);
    free(call);
}

void pm_parked_end(struct parked *call)
{
    if (call->taken.fd >= 0)
        close(call->taken.fd);
    pm_parked_drop(call);
}

/* pump->earliest is no later than any limit, so that all calls are looked through only when one may have come. */
static void note_limit(struct pm_pump *pump, const struct parked *call)
{
    if (call->until && (!pump->earliest || call->until < pump->earliest))
        pump->earliest = call->until;
}

/* Under lock. */
static void wait_from_now(struct pm_pump *pump, struct parked *call)
{
    call->code = call->over = 0;
    TAILQ_INSERT_TAIL(&pump->waits, call, entry);
    note_limit(pump, call);
    if (pump->asleep || call->until)
        pm_watcher_wake(pump);
}

void pm_park_asking(struct pm_pump *pump, struct parked *call, const pm_question *question)
{
    pthread_mutex_lock(&pump->lock);
    wait_from_now(pump, call);
    pm_question_queue(pump, &call->asked, question);
    pthread_mutex_unlock(&pump->lock);
    pm_tell(pump);
}

static int most_receiving(void)
{
    struct rlimit limit = {0};

    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur / PART > INT_MAX ? INT_MAX : (int)(limit.rlim_cur / PART);
}

static int attend(struct pm_pump *pump, struct parked *call, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data = {.ptr = call}};

    return epoll_ctl(pump->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* Of those that accept from a listener, the one that an arrival wakes, or the first of the others. Under lock. */
static struct parked *find_accepting(struct pm_pump *pump, uint64_t socket, int watched)
{
    struct parked *call;

    TAILQ_FOREACH(call, &pump->waits, entry)
        if (call->accepts && call->watched == watched && call->taken.socket == socket && call->taken.fd >= 0)
            return call;
    return NULL;
}

void pm_park_next(struct pm_pump *pump, uint64_t socket)
{
    struct parked *call;

    pthread_mutex_lock(&pump->lock);
    call = find_accepting(pump, socket, 1) ? NULL : find_accepting(pump, socket, 0);
    if (call)
        call->watched = attend(pump, call, call->taken.fd);
    pthread_mutex_unlock(&pump->lock);
}

/* All that accept from one listener would wake for each connection, but for one in vain. The program's socket is to be
   gone with its last process, and not a turn later: so the end of who waits is watched, too. */
int pm_park_receiving(struct pm_pump *pump, struct parked *call)
{
    int most = most_receiving(), parked, waits;

    if (call->thread < 0)
        call->thread = pm_pidfd((pid_t)call->request.pid);
    pthread_mutex_lock(&pump->lock);
    parked = pump->receiving < most;
    waits = parked && call->accepts && find_accepting(pump, call->taken.socket, 1);
    call->watched = parked && !waits && attend(pump, call, call->taken.fd);
    parked = waits || call->watched;
    if (parked) {
        if (call->thread >= 0)
            attend(pump, call, call->thread);
        call->receives = 1;
        pump->receiving++;
        wait_from_now(pump, call);
    }
    pthread_mutex_unlock(&pump->lock);
    return parked;
}

/* The wait has ended so. 1: a thread is to be admitted for it; what the watcher is looking at it hands on itself. Of what
   receives only the watcher calls this: no event that it has still to see may be about a call that is gone. */
int pm_parked_over(struct pm_pump *pump, struct parked *call, int code)
{
    if (!call->over)
        call->code = code;
    call->over = 1;
    if (call->looked_at)
        return 0;
    pm_question_withdraw(pump, &call->asked);
    if (call->receives) {
        epoll_ctl(pump->epoll, EPOLL_CTL_DEL, call->taken.fd, NULL);
        if (call->thread >= 0)
            epoll_ctl(pump->epoll, EPOLL_CTL_DEL, call->thread, NULL);
        call->receives = 0;
        pump->receiving--;
    }
    TAILQ_REMOVE(&pump->waits, call, entry);
    TAILQ_INSERT_TAIL(&pump->ready, call, entry);
    return 1;
}

static int is_left(const struct pm_pump *pump, const struct parked *call)
{
    return ioctl(pump->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &call->request.id) == 0;
}

/* Who has just died in a call that waits here has still got the socket by us, and so its address: until the watcher
   hears of it, which may be too late for who takes its place. Ending the call is left to the watcher. */
void pm_parked_shed(struct pm_pump *pump)
{
    struct parked *call;

    pthread_mutex_lock(&pump->lock);
    TAILQ_FOREACH(call, &pump->waits, entry) {
        if (!call->receives || call->taken.fd < 0 || is_left(pump, call))
            continue;
        epoll_ctl(pump->epoll, EPOLL_CTL_DEL, call->taken.fd, NULL);
        close(call->taken.fd);
        call->taken.fd = -1;
    }
    pthread_mutex_unlock(&pump->lock);
}

/* The errno that its thread's state ends the wait with; 0: it goes on. */
static int look(const struct pm_pump *pump, const struct parked *call)
{
    int code;

    if (!is_left(pump, call))
        return ESRCH;
    code = call->interruptible ? -pm_interrupted((pid_t)call->request.pid, call->until != 0) : 0;
    return call->restarts && code == EINTR ? 0 : code;
}

/* At the first in the list, which is the last afterwards. Is it over? Under lock, but not while it looks. */
static int look_at_next(struct pm_pump *pump)
{
    struct parked *call = TAILQ_FIRST(&pump->waits);
    int code;

    call->looked_at = 1;
    pthread_mutex_unlock(&pump->lock);
    code = look(pump, call);
    pthread_mutex_lock(&pump->lock);
    call->looked_at = 0;
    TAILQ_REMOVE(&pump->waits, call, entry);
    TAILQ_INSERT_TAIL(&pump->waits, call, entry);
    return code || call->over ? pm_parked_over(pump, call, code) : 0;
}

/* Ends what is too late. Under lock. */
static int end_late(struct pm_pump *pump)
{
    struct parked *call = TAILQ_FIRST(&pump->waits), *next;
    long long now = pm_now();
    int over = 0;

    if (!pump->earliest || now < pump->earliest)
        return 0;
    pump->earliest = 0;
    for (; call; call = next) {
        next = TAILQ_NEXT(call, entry);
        if (call->until && now >= call->until)
            over += pm_parked_over(pump, call, call->late);
        else
            note_limit(pump, call);
    }
    return over;
}

/* Under lock: ms until there is something to do, -1: until the bell rings. */
static int pause_of(struct pm_pump *pump, long long turn)
{
    long long now = pm_now(), until = pump->earliest && pump->earliest < turn ? pump->earliest : turn;

    if (TAILQ_EMPTY(&pump->waits))
        return -1;
    return until < now ? 0 : (int)(until - now);
}

/* There is something to receive, or nobody is left who does: then the socket goes at once. */
static int take_event(struct pm_pump *pump, struct parked *call)
{
    int code, over;

    if (call->over)
        return 0;
    code = is_left(pump, call) ? 0 : ESRCH;
    over = pm_parked_over(pump, call, code);
    if (code) {
        close(call->taken.fd);
        call->taken.fd = -1;
    }
    return over;
}

static int take_events(struct pm_pump *pump, const struct epoll_event *events, int count)
{
    uint64_t rung;
    int over = 0;

    for (int i = 0; i < count; i++)
        if (events[i].data.ptr)
            over += take_event(pump, events[i].data.ptr);
        else if (read(pump->bell, &rung, sizeof rung) < 0)
            continue; /* nobody else reads it, so it is there */
    return over;
}

/* Those whose turn it is. Under lock. */
static int look_at_some(struct pm_pump *pump, long long turn)
{
    struct parked *call;
    int over = 0;

    for (int left = LOOKS; left > 0 && (call = TAILQ_FIRST(&pump->waits)) && call->looked != turn; left--) {
        call->looked = turn;
        over += look_at_next(pump);
    }
    return over;
}

/* One round of the watcher; turn: when signals are looked for next. How many calls are over. */
static int watch_once(struct pm_pump *pump, long long *turn)
{
    struct epoll_event events[LOOKS];
    int over, count, pause;

    pthread_mutex_lock(&pump->lock);
    pause = pause_of(pump, *turn);
    pump->asleep = pause < 0;
    pthread_mutex_unlock(&pump->lock);
    count = epoll_wait(pump->epoll, events, LOOKS, pause);
    pthread_mutex_lock(&pump->lock);
    if (pump->asleep)
        *turn = pm_now() + TURN;
    pump->asleep = 0;
    over = take_events(pump, events, count) + end_late(pump);
    if (pm_now() >= *turn) {
        over += look_at_some(pump, *turn);
        *turn = pm_now() + TURN;
    }
    pthread_mutex_unlock(&pump->lock);
    return over;
}

static void *watch(void *given)
{
    struct pm_pump *pump = given;
    long long turn = 0;

    while (!pump->stopping)
        for (int over = watch_once(pump, &turn); over > 0; over--)
            pm_admit(pump);
    pump->alive--;
    return NULL;
}

void pm_watcher_wake(struct pm_pump *pump)
{
    uint64_t one = 1;
    ssize_t done = write(pump->bell, &one, sizeof one);

    (void)done; /* EAGAIN: it rings already */
}

int pm_watcher_start(struct pm_pump *pump)
{
    struct epoll_event event = {.events = EPOLLIN};
    int failed = epoll_ctl(pump->epoll, EPOLL_CTL_ADD, pump->bell, &event) < 0 ? errno : 0;

    if (!failed)
        failed = pm_start_thread(&pump->watcher, watch, pump);
    pump->watched = !failed;
    pump->alive += !failed;
    return failed;
}

int pm_parked_go_on(struct worker *worker)
{
    struct pm_pump *pump = worker->pump;
    struct parked *call;

    pthread_mutex_lock(&pump->lock);
    call = TAILQ_FIRST(&pump->ready);
    if (call)
        TAILQ_REMOVE(&pump->ready, call, entry);
    pthread_mutex_unlock(&pump->lock);
    if (!call)
        return 0;
    worker->at_door = 0;
    worker->request = call->request;
    worker->job.caught = pm_caught(worker->request.data.nr);
    call->go_on(worker, call);
    return 1;
}

/* Those that still wait: nobody will answer. */
static void give_up(struct pm_pump *pump, struct parked_list *calls)
{
    struct parked *call;

    while ((call = TAILQ_FIRST(calls))) {
        struct pm_job job = {.listener = pump->listener, .request = &call->request};

        pm_job_return(&job, -EIO);
        TAILQ_REMOVE(calls, call, entry);
        pm_parked_end(call);
    }
}

void pm_parked_free(struct pm_pump *pump)
{
    if (pump->watched)
        pthread_join(pump->watcher, NULL);
    give_up(pump, &pump->waits);
    give_up(pump, &pump->ready);
    if (pump->bell >= 0)
        close(pump->bell);
    if (pump->epoll >= 0)
        close(pump->epoll);
}
