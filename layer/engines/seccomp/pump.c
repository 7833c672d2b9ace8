/* The threads that answer notifications. One at a time stands at the door: the kernel wakes all that wait
   there, which doubles the cost of a call. It answers what stays local itself; before anything that may
   take long it lets the next one to the door, so a slow file delays only its own caller. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "pump.h"

#define FIRST_WORKERS 2
#define STACK (256u * 1024)

static int grow(struct pm_pump *pump);

void pm_admit(struct pm_pump *pump)
{
    int short_of_workers = pump->waiting == 0;

    sem_post(&pump->door);
    if (short_of_workers)
        grow(pump); /* with as many as may be, the first to be done passes */
}

/* Before something that may take long: the door is another's. */
void pm_leave_door(struct worker *worker)
{
    if (!worker->at_door)
        return;
    worker->at_door = 0;
    pm_admit(worker->pump);
}

static void take_door(struct worker *worker)
{
    struct pm_pump *pump = worker->pump;

    if (worker->at_door)
        return;
    pump->waiting++;
    while (sem_wait(&pump->door) < 0) /* WAKE: who has the door leaves it */
        ;
    pump->waiting--;
    worker->at_door = 1;
}

/* Are all processes under the filter gone? (From 6.11 the kernel says ENOENT then, without waiting.) */
static int deserted(int listener)
{
    struct pollfd poll_fd = {.fd = listener, .events = POLLIN};

    return poll(&poll_fd, 1, 0) > 0 && poll_fd.revents & (POLLHUP | POLLERR | POLLNVAL);
}

static void *work(void *given)
{
    struct worker *worker = given;
    struct pm_pump *pump = worker->pump;

    while (!pump->stopping) {
        int received, passes = !worker->at_door;

        take_door(worker);
        if (pump->stopping)
            break;
        if (passes && pm_parked_go_on(worker))
            continue;
        memset(&worker->request, 0, sizeof worker->request);
        received = ioctl(pump->listener, SECCOMP_IOCTL_NOTIF_RECV, &worker->request) == 0;
        if (received) {
            pump->counters[PM_RECEIVED]++;
            pm_serve(worker);
        } else if (errno != EINTR && (errno != ENOENT || deserted(pump->listener))) {
            pump->stopping = 1; /* nobody is left to ask */
        }
    }
    pm_leave_door(worker);
    pump->alive--;
    return NULL;
}

static void woken(int number)
{
    (void)number;
}

int pm_start_thread(pthread_t *thread, void *(*work)(void *), void *given)
{
    pthread_attr_t attributes;
    sigset_t ours, before;
    int failed;

    sigfillset(&ours);
    sigdelset(&ours, WAKE);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_sigmask(SIG_SETMASK, &ours, &before);
    failed = pthread_create(thread, &attributes, work, given);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failed;
}

static struct worker *make_worker(struct pm_pump *pump)
{
    struct worker *worker = calloc(1, sizeof *worker);

    if (!worker)
        return NULL;
    worker->pump = pump;
    worker->job.request = &worker->request;
    worker->job.listener = pump->listener;
    worker->job.own = &pump->own;
    worker->asked.found = &worker->job.found;
    worker->asked.worker = worker;
    pthread_cond_init(&worker->replied, NULL);
    return worker;
}

/* One more worker; EAGAIN when there are as many as may be. */
static int grow(struct pm_pump *pump)
{
    struct worker *worker = make_worker(pump);
    int failed = worker ? 0 : ENOMEM;

    if (failed)
        return failed;
    pthread_mutex_lock(&pump->lock);
    if (pump->count == MOST_WORKERS || pump->stopping)
        failed = EAGAIN;
    if (!failed) {
        pump->workers[pump->count] = worker;
        pump->alive++;
        failed = pm_start_thread(&worker->thread, work, worker);
        if (failed)
            pump->alive--;
        else
            pump->count++;
    }
    pthread_mutex_unlock(&pump->lock);
    if (failed)
        free(worker);
    return failed;
}

static int complete(const struct pm_pump *pump)
{
    return pump->event >= 0 && pump->bell >= 0 && pump->epoll >= 0 && pump->root >= 0 && pump->table && pump->trees &&
           pump->names && pump->bound && pump->guests && pump->skip;
}

static void equip(struct pm_pump *pump, int skips)
{
    pump->listener = -1;
    pump->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pump->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pump->epoll = epoll_create1(EPOLL_CLOEXEC);
    TAILQ_INIT(&pump->waits);
    TAILQ_INIT(&pump->ready);
    pump->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    pump->table = pm_table_new();
    pump->trees = pm_trees_new(pump->root);
    pump->names = pm_names_new();
    pump->bound = pm_names_new();
    pump->guests = pm_guests_new();
    pump->network = pm_network();
    pm_rights_read("/proc/thread-self", &pump->own); /* not readable: like nobody's, so all are elsewhere */
    pump->skip = calloc((size_t)skips + 1, sizeof *pump->skip);
    pthread_mutex_init(&pump->lock, NULL);
    pthread_mutex_init(&pump->settling, NULL);
    pthread_mutex_init(&pump->accepts, NULL);
    sem_init(&pump->door, 0, 1);
}

pm_pump *pm_pump_new(const char **skip, int skips)
{
    pm_pump *pump = calloc(1, sizeof *pump);

    if (!pump)
        return NULL;
    equip(pump, skips);
    if (!complete(pump)) {
        pm_pump_free(pump);
        return NULL;
    }
    for (; pump->skips < skips; pump->skips++)
        pump->skip[pump->skips] = strdup(skip[pump->skips]);
    return pump;
}

/* The pump owns the listener from here on. */
int pm_pump_start(pm_pump *pump, int listener)
{
    struct sigaction action = {.sa_handler = woken}; /* without SA_RESTART: that is its use */
    int failed;

    pump->listener = listener;
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP); /* from 6.6 */
    sigaction(WAKE, &action, NULL);
    failed = pm_watcher_start(pump);
    for (int i = 0; i < FIRST_WORKERS && !failed; i++)
        failed = grow(pump);
    return failed;
}

/* Every thread out of its call. EBUSY: one is still inside a file operation after that time. */
int pm_pump_stop(pm_pump *pump, int milliseconds)
{
    struct timespec tick = {0, 1000000};

    pthread_mutex_lock(&pump->lock);
    pump->stopping = 1;
    for (int i = 0; i < pump->count; i++)
        pthread_cond_signal(&pump->workers[i]->replied);
    pthread_mutex_unlock(&pump->lock);
    pm_watcher_wake(pump);
    for (; pump->alive > 0 && milliseconds > 0; milliseconds--) {
        for (int i = 0; i < pump->count; i++) /* again and again: a signal before the ioctl is lost */
            pthread_kill(pump->workers[i]->thread, WAKE);
        nanosleep(&tick, NULL);
    }
    return pump->alive > 0 ? EBUSY : 0;
}

/* After pm_pump_stop has returned 0, or without a start. */
void pm_pump_free(pm_pump *pump)
{
    for (int i = 0; i < pump->count; i++) {
        pthread_join(pump->workers[i]->thread, NULL);
        pthread_cond_destroy(&pump->workers[i]->replied);
        free(pump->workers[i]);
    }
    pm_parked_free(pump);
    for (int i = 0; i < pump->skips; i++)
        free(pump->skip[i]);
    free(pump->skip);
    pm_table_free(pump->table);
    pm_trees_free(pump->trees);
    pm_names_free(pump->names);
    pm_names_free(pump->bound);
    pm_guests_free(pump->guests);
    sem_destroy(&pump->door);
    pthread_mutex_destroy(&pump->settling);
    pthread_mutex_destroy(&pump->lock);
    pthread_mutex_destroy(&pump->accepts);
    if (pump->event >= 0)
        close(pump->event);
    if (pump->root >= 0)
        close(pump->root);
    if (pump->listener >= 0)
        close(pump->listener);
    free(pump);
}

int pm_pump_event(pm_pump *pump)
{
    return pump->event;
}

long long pm_pump_count(pm_pump *pump, int counter)
{
    return counter >= 0 && counter < PM_COUNTERS ? pump->counters[counter] : -1;
}

int pm_learn(pm_pump *pump, int kind, int follow, int tree, const char *path, int size, const pm_answer *answer)
{
    if (answer->verdict == PM_TREE_PATH)
        pm_trees_note(pump->trees, answer->root);
    return pm_table_put(pump->table, kind, follow, tree, path, size, answer);
}

int pm_known(pm_pump *pump, int kind, int follow, const char *path)
{
    struct pm_found found;

    pm_table_find(pump->table, kind, follow, path, &found);
    return found.verdict;
}
