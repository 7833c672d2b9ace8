/* A server and its load, for steal.py. One thread each, so that either costs little beside what is measured.
     requests serve PORT                             says "up", answers each request with 200 bytes
     requests load HOST PORT CONNECTIONS SECONDS keep|new   says: requests/s, p50 and p99 in us, failures */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 1024
#define SLOWEST 200000 /* us; what takes longer counts as that */

static const char REQUEST[] = "GET /hello HTTP/1.1\r\nHost: web.shop.svc.cluster.local\r\nUser-Agent: load\r\n"
                              "Accept: */*\r\nX-Trace: 0123456789abcdef\r\n\r\n";
static char answer[512];
static int counts[SLOWEST + 1];
static struct sockaddr_in place;
static int epoll;

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static void watch(int fd, int how)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    epoll_ctl(epoll, how, fd, &event);
}

static int serve(int port)
{
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), size;
    struct epoll_event events[256];
    char data[4096];

    size = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 120\r\n\r\n%0120d", 7);
    place.sin_port = htons((uint16_t)port);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&place, sizeof place) || listen(listener, 4096))
        return 1;
    watch(listener, EPOLL_CTL_ADD);
    puts("up");
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);

        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;

            if (fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    watch(fd, EPOLL_CTL_ADD);
                }
            } else if (recv(fd, data, sizeof data, 0) <= 0) {
                close(fd);
            } else {
                send(fd, answer, (size_t)size, MSG_NOSIGNAL);
            }
        }
    }
}

static double begun[MOST * 64];

static int connected(void)
{
    struct linger reset = {1, 0}; /* or a load of new connections is one of ports that wait */
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(fd, (void *)&place, sizeof place) < 0) {
        close(fd);
        return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static int ask(int fd)
{
    return send(fd, REQUEST, sizeof REQUEST - 1, MSG_NOSIGNAL) == sizeof REQUEST - 1;
}

static int begin(int fd)
{
    double start = now();

    fd = fd < 0 ? connected() : fd;
    if (fd < 0 || !ask(fd))
        return -1;
    begun[fd] = start;
    return fd;
}

static double percentile(long long all, double part)
{
    long long seen = 0;

    for (int us = 0; us <= SLOWEST; us++)
        if ((seen += counts[us]) >= all * part)
            return us;
    return SLOWEST;
}

static int load(int connections, double seconds, int keep)
{
    struct epoll_event events[256];
    double start = now(), end = start + seconds * 1e6;
    long long done = 0, failed = 0;
    char data[4096];

    for (int i = 0; i < connections; i++) {
        int fd = begin(-1);

        if (fd < 0)
            failed++;
        else
            watch(fd, EPOLL_CTL_ADD);
    }
    while (now() < end) {
        int count = epoll_wait(epoll, events, 256, 100);

        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            ssize_t size = recv(fd, data, sizeof data, 0);
            double took = now() - begun[fd];

            if (size < 0 && errno == EAGAIN)
                continue;
            failed += size <= 0;
            done += size > 0;
            if (size > 0)
                counts[took > SLOWEST ? SLOWEST : (int)took]++;
            if (size > 0 && keep && begin(fd) >= 0)
                continue;
            close(fd);
            fd = begin(-1);
            if (fd >= 0)
                watch(fd, EPOLL_CTL_ADD);
            else
                failed++;
        }
    }
    seconds = (now() - start) / 1e6;
    printf("%.0f %.0f %.0f %lld\n", done / seconds, percentile(done, 0.5), percentile(done, 0.99), failed);
    return 0;
}

int main(int count, char **words)
{
    epoll = epoll_create1(0);
    place = (struct sockaddr_in){.sin_family = AF_INET};
    if (count == 3 && !strcmp(words[1], "serve"))
        return serve(atoi(words[2]));
    if (count != 7 || inet_pton(AF_INET, words[2], &place.sin_addr) != 1)
        return 2;
    place.sin_port = htons((uint16_t)atoi(words[3]));
    return load(atoi(words[4]), atof(words[5]), !strcmp(words[6], "keep"));
}
