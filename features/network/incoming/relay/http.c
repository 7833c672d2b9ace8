/* Which messages of HTTP/1.1 are plain: those that nobody reads in two ways. All others are Python's, where llhttp
   decides. Plain is stricter than llhttp everywhere: known methods and letters, no folded lines, no bare CR or LF, a body
   by one Content-Length or none, no header that changes what follows. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "relay.h"

struct cursor {
    const char *at, *end;
};

struct form {
    int counted; /* there is a Content-Length */
    unsigned long long length;
};

struct text {
    const char *data;
    size_t size;
};

static const char *const METHODS[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
static const char TARGET[] = "-._~:/?[]@!$&'()*+,;=%", TOKEN[] = "!#$%&'*+-.^_`|~";

static int alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static char small(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 32) : c;
}

static unsigned char kinds[256]; /* bits of the three below */
enum { IN_TARGET = 1, IN_TOKEN = 2, IN_REQUEST = 4, IN_ANSWER = 8 };

__attribute__((constructor)) static void learn(void)
{
    for (int c = 0; c < 256; c++) {
        int word = alphanumeric((char)c), visible = c >= 32 && c < 127;

        kinds[c] = (unsigned char)((word || (c && strchr(TARGET, c)) ? IN_TARGET : 0) |
                                   (word || (c && strchr(TOKEN, c)) ? IN_TOKEN : 0) | (visible ? IN_REQUEST : 0) |
                                   (visible || c == '\t' || c > 127 ? IN_ANSWER : 0));
    }
}

static struct text run(struct cursor *cursor, int kind)
{
    struct text found = {cursor->at, 0};

    while (cursor->at < cursor->end && kinds[(unsigned char)*cursor->at] & kind)
        cursor->at++;
    found.size = (size_t)(cursor->at - found.data);
    return found;
}

static int skip(struct cursor *cursor, const char *word)
{
    size_t size = strlen(word);

    if ((size_t)(cursor->end - cursor->at) < size || memcmp(cursor->at, word, size))
        return 0;
    cursor->at += size;
    return 1;
}

static int is(struct text text, const char *word)
{
    return text.size == strlen(word) && !strncasecmp(text.data, word, text.size);
}

static int number(struct text text, unsigned long long *value)
{
    if (!text.size || text.size > 15)
        return 0;
    *value = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return 0;
        *value = *value * 10 + (unsigned long long)(text.data[i] - '0');
    }
    return 1;
}

/* Does this header leave the message plain? */
static int plain_header(struct text name, struct text value, struct form *form)
{
    if (is(name, "content-length"))
        return !form->counted++ && number(value, &form->length);
    if (is(name, "connection"))
        return is(value, "keep-alive");
    return !is(name, "transfer-encoding") && !is(name, "upgrade") && !is(name, "expect") &&
           !is(name, "proxy-connection") && !is(name, "http2-settings");
}

static void note(struct filter *filter, struct text name, struct text value)
{
    char *to = filter->headers + filter->size;

    for (size_t i = 0; i < name.size; i++)
        *to++ = small(name.data[i]);
    *to++ = ':';
    *to++ = ' ';
    for (size_t i = 0; i < value.size; i++)
        *to++ = small(value.data[i]);
    *to++ = '\n';
    filter->size = (size_t)(to - filter->headers);
}

/* The lines behind the first, up to the empty one. */
static int headers(struct cursor *cursor, int kind, struct filter *filter, struct form *form)
{
    while (!skip(cursor, "\r\n")) {
        struct text name = run(cursor, IN_TOKEN), value;

        if (!name.size || !skip(cursor, ":"))
            return 0;
        skip(cursor, " ");
        value = run(cursor, kind);
        if (!skip(cursor, "\r\n") || (value.size && (*value.data == ' ' || *value.data == '\t')))
            return 0;
        if (!plain_header(name, value, form))
            return 0;
        if (filter)
            note(filter, name, value);
    }
    return 1;
}

static int holds(struct text text, const struct needle *needle)
{
    for (size_t i = 0; i + needle->size <= text.size; i++) {
        size_t n = 0;

        while (n < needle->size && small(text.data[i + n]) == needle->text[n])
            n++;
        if (n == needle->size)
            return 1;
    }
    return 0;
}

static int asked_for(const struct filter *filter, struct text method, struct text target)
{
    for (size_t i = 0; i < filter->count; i++) {
        const struct needle *needle = &filter->needles[i];

        if (needle->kind == RELAY_METHOD ? is(method, needle->text)
            : needle->kind == RELAY_PATH
                ? holds(target, needle)
                : memmem(filter->headers, filter->size, needle->text, needle->size) != NULL)
            return 1;
    }
    return 0;
}

static int known(struct text method)
{
    for (size_t i = 0; i < sizeof METHODS / sizeof *METHODS; i++)
        if (method.size == strlen(METHODS[i]) && !memcmp(method.data, METHODS[i], method.size))
            return 1;
    return 0;
}

size_t plain_request(struct filter *filter, const char *data, size_t size, int *head_only)
{
    struct cursor cursor = {data, data + size};
    struct form form = {0, 0};
    struct text method = run(&cursor, IN_TOKEN), target;
    size_t head;

    if (!known(method) || !skip(&cursor, " "))
        return 0;
    target = run(&cursor, IN_TARGET);
    if (!target.size || *target.data != '/' || !skip(&cursor, " HTTP/1.1\r\n"))
        return 0;
    filter->size = 0;
    if (!headers(&cursor, IN_REQUEST, filter, &form) || asked_for(filter, method, target))
        return 0;
    head = (size_t)(cursor.at - data);
    *head_only = is(method, "HEAD");
    return form.length <= size - head ? head + (size_t)form.length : 0;
}

size_t plain_answer(const char *data, size_t size, int head_only, unsigned long long *left)
{
    struct cursor cursor = {data, data + size};
    struct form form = {0, 0};
    unsigned long long status;
    struct text code;

    if (!skip(&cursor, "HTTP/1.1 "))
        return 0;
    code = (struct text){cursor.at, 3};
    if (cursor.end - cursor.at < 3 || !number(code, &status) || status < 200)
        return 0;
    cursor.at += 3;
    if (!skip(&cursor, " "))
        return 0;
    run(&cursor, IN_ANSWER);
    if (!skip(&cursor, "\r\n") || !headers(&cursor, IN_ANSWER, NULL, &form))
        return 0;
    *left = 0;
    if (!head_only && status != 204 && status != 304) {
        if (!form.counted)
            return 0;
        *left = form.length;
    }
    return (size_t)(cursor.at - data);
}

int filter_needle(struct filter *filter, int kind, const char *text, size_t size)
{
    struct needle *more = realloc(filter->needles, (filter->count + 1) * sizeof *more);
    char *copy = malloc(size + 1);

    if (more)
        filter->needles = more;
    if (!more || !copy) {
        free(copy);
        return ENOMEM;
    }
    memcpy(copy, text, size);
    copy[size] = 0;
    more[filter->count++] = (struct needle){kind, copy, size};
    return 0;
}

void filter_free(struct filter *filter)
{
    for (size_t i = 0; i < filter->count; i++)
        free(filter->needles[i].text);
    free(filter->needles);
}
