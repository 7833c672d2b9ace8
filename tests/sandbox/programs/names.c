/* Resolves names with the C library's getaddrinfo and prints what came of each. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

static void print(const char *name)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    char text[INET6_ADDRSTRLEN];
    int failed = getaddrinfo(name, "80", &hints, &found);

    printf("%s", name);
    if (failed)
        printf(" %d", failed);
    for (struct addrinfo *each = found; each; each = each->ai_next) {
        const void *address = each->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)each->ai_addr)->sin_addr
                                                         : (void *)&((struct sockaddr_in6 *)each->ai_addr)->sin6_addr;
        printf(" %s", inet_ntop(each->ai_family, address, text, sizeof text));
    }
    puts("");
    if (found)
        freeaddrinfo(found);
}

int main(int count, char **names)
{
    for (int i = 1; i < count; i++)
        print(names[i]);
    return 0;
}
