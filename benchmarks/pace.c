/* A load of a fixed rate, and a server that counts, for mirror.py. One thread each.
     pace load HOST PORT CONNECTIONS SECONDS RATE   says: requests, p50 and p99 in us, failures
     pace count PORT                                says "up"; answers each request; at SIGUSR1 says how many came
   A request is late, and so its time longer, where the one before on its connection is not answered when it is due. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MOST 1024
#define SLOWEST 200000 /* us; what takes longer counts as that */

static const char REQUEST[] = "GET /hello HTTP/1.1\r\nHost: web.shop.svc.cluster.local\r\nUser-Agent: load\r\n"
                              "Accept: */*\r\nX-Trace: 0123456789abcdef\r\n\r\n";
static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
static int counts[SLOWEST + 1];
static struct sockaddr_in place;
static int epoll;
static struct epoll_event events[256];
static char data[65536];

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static void watch(int fd, uint32_t number)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};

    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static int signals(void)
{
    sigset_t wanted;

    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    return signalfd(-1, &wanted, SFD_NONBLOCK);
}

static int matched[65536]; /* by descriptor: bytes of the empty line that ends a head */

static int ended(int fd, ssize_t size)
{
    int whole = 0;

    for (ssize_t i = 0; i < size; i++) {
        matched[fd] = data[i] == "\r\n\r\n"[matched[fd]] ? matched[fd] + 1 : data[i] == '\r';
        if (matched[fd] == 4) {
            whole++;
            matched[fd] = 0;
        }
    }
    return whole;
}

static void take(int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        matched[fd] = 0;
        watch(fd, (uint32_t)fd);
    }
}

static long long answered(int fd)
{
    ssize_t size = recv(fd, data, sizeof data, 0);
    int whole = size > 0 ? ended(fd, size) : 0;

    if (size == 0 || (size < 0 && errno != EAGAIN))
        close(fd);
    for (int i = 0; i < whole; i++)
        send(fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL);
    return whole;
}

static int count(int port)
{
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), asked = signals();
    struct signalfd_siginfo came;
    long long all = 0;

    place.sin_port = htons((uint16_t)port);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&place, sizeof place) || listen(listener, 4096))
        return 1;
    watch(listener, (uint32_t)listener);
    watch(asked, (uint32_t)asked);
    puts("up");
    fflush(stdout);
    for (;;) {
        int some = epoll_wait(epoll, events, 256, -1);

        for (int i = 0; i < some; i++) {
            int fd = (int)events[i].data.u32;

            if (fd == listener) {
                take(listener);
            } else if (fd == asked) {
                if (read(asked, &came, sizeof came) > 0)
                    printf("%lld\n", all);
                fflush(stdout);
            } else {
                all += answered(fd);
            }
        }
    }
}

static struct {
    int fd;
    double due, began; /* the next request's time; the time of the one that is not answered, or 0 */
} line[MOST];
static long long sent, failed;

static int connected(void)
{
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (void *)&place, sizeof place) < 0)
        return -1;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void ask(int i, double began, double every)
{
    failed += send(line[i].fd, REQUEST, sizeof REQUEST - 1, MSG_NOSIGNAL) != sizeof REQUEST - 1;
    sent++;
    line[i].began = began;
    line[i].due += every;
}

static void heard(int i, double every, double end)
{
    ssize_t size = recv(line[i].fd, data, sizeof data, 0);
    double time = now(), took = time - line[i].began;

    if (size < 0 && errno == EAGAIN)
        return;
    failed += size <= 0;
    counts[took > SLOWEST ? SLOWEST : (int)took]++;
    line[i].began = 0;
    if (line[i].due < time && line[i].due < end)
        ask(i, line[i].due, every);
}

static double percentile(long long all, double part)
{
    long long seen = 0;

    for (int us = 0; us <= SLOWEST; us++)
        if ((seen += counts[us]) >= all * part)
            return us;
    return SLOWEST;
}

static void wake(int timer, double at)
{
    struct itimerspec when = {.it_value = {(time_t)(at / 1e6), (long)(at - (time_t)(at / 1e6) * 1e6) * 1000}};

    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static int load(int connections, double seconds, double rate)
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), next = 0;
    double every = 1e6 / rate * connections, start = now() + 1e4, end = start + seconds * 1e6, time;

    for (int i = 0; i < connections; i++) {
        line[i].fd = connected();
        if (line[i].fd < 0)
            return 1;
        line[i].due = start + i * 1e6 / rate;
        watch(line[i].fd, (uint32_t)i);
    }
    watch(timer, MOST);
    while ((time = now()) < end + 2e5) {
        for (int i = 0; i < connections; i++)
            if (line[i].due <= time && line[i].due < end && !line[i].began)
                ask(i, time, every);
        for (int i = next = 0; i < connections; i++)
            if (line[i].due < line[next].due)
                next = i;
        wake(timer, line[next].due > time ? line[next].due : time + 100);
        for (int left = epoll_wait(epoll, events, 256, 10); left-- > 0;)
            if (events[left].data.u32 < MOST)
                heard((int)events[left].data.u32, every, end);
    }
    printf("%lld %.0f %.0f %lld\n", sent, percentile(sent, 0.5), percentile(sent, 0.99), failed);
    return 0;
}

int main(int words, char **word)
{
    epoll = epoll_create1(0);
    place = (struct sockaddr_in){.sin_family = AF_INET};
    if (words == 3 && !strcmp(word[1], "count"))
        return count(atoi(word[2]));
    if (words != 7 || inet_pton(AF_INET, word[2], &place.sin_addr) != 1 || atoi(word[4]) > MOST)
        return 2;
    place.sin_port = htons((uint16_t)atoi(word[3]));
    return load(atoi(word[4]), atof(word[5]), atof(word[6]));
}
