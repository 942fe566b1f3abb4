/* `./server PORT BUG` serves KV/1.0 to the letter of the course document, with one bug or with none. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST (2 << 20)

struct entry { char *key, *value; size_t size; struct entry *next; };
struct reply { char *data; size_t size; };

static const char *bug;
static struct entry *store;
static long keys, connections, done, gets, puts_, dels;
static time_t started;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct reply shared;

static int is(const char *name) { return !strcmp(bug, name); }

static struct entry **find(const char *key) {
    struct entry **place = &store;
    size_t most = is("keys-cut") ? 63 : SIZE_MAX >> 1; /* as strncmp() on char key[64] compares */
    while (*place && strncmp((*place)->key, key, most)) place = &(*place)->next;
    return place;
}

static struct reply say(const char *text, const char *value, size_t size) {
    size_t head = strlen(text), room = head + size + 2;
    struct reply reply = {malloc(room < 64 ? 64 : room), head + size + 1};
    memset(reply.data, 0, room < 64 ? 64 : room);
    memcpy(reply.data, text, head);
    if (size) memcpy(reply.data + head, value, size);
    reply.data[head + size] = '\n';
    if (is("replies-padded") && reply.size < 64) reply.size = 64; /* as send(fd, buffer, sizeof buffer) does */
    return reply;
}

static struct reply stats(void) {
    char text[400];
    long s = (long)(time(NULL) - started);
    snprintf(text, sizeof text, "200 OK uptime: %ld:%02ld:%02ld; connections: %ld; commands_processed: %ld; get_requests: %ld; "
        "put_requests: %ld; del_requests: %ld; keys_stored: %ld", s / 3600, s / 60 % 60, s % 60, connections, done, gets, puts_,
        dels, keys);
    return say(text, NULL, 0);
}

/* line: size bytes and a NUL behind them, without the line feed */
static struct reply answer(char *line, size_t size, int *ends) {
    char *words[4] = {line, NULL, NULL, NULL};
    int number = 1;
    if (size && line[size - 1] == '\r') line[--size] = 0;
    for (char *space = line; number < 4 && (space = memchr(space, ' ', size - (space - line)));) {
        *space++ = 0;
        words[number++] = space;
    }
    if (strcmp(words[0], "KV/1.0")) return say("426 UPGRADE_REQUIRED", NULL, 0);
    if (number == 2 && !strcmp(words[1], "STATS")) return stats();
    if (number == 2 && !strcmp(words[1], "QUIT")) return *ends = 1, say("200 OK bye", NULL, 0);
    int put = number > 1 && !strcmp(words[1], "PUT"), get = number > 1 && !strcmp(words[1], "GET");
    int del = number > 1 && !strcmp(words[1], "DEL");
    if (!(put || get || del) || number != (put ? 4 : 3) || !*words[2]) return say("400 BAD_REQUEST", NULL, 0);
    size_t length = put ? size - (words[3] - line) : 0;
    if (put && !length) return say("400 BAD_REQUEST", NULL, 0);
    struct entry **place = find(words[2]), *entry = *place;
    puts_ += put, gets += get, dels += del;
    if (put) {
        int known = entry != NULL;
        if (!known) {
            *place = entry = calloc(1, sizeof *entry);
            entry->key = strdup(words[2]);
            keys++;
        }
        free(entry->value);
        entry->value = memcpy(malloc(length), words[3], length);
        entry->size = length;
        return say(known ? "200 OK" : "201 CREATED", NULL, 0);
    }
    if (!entry) return say("404 NOT_FOUND", NULL, 0);
    if (get) return say("200 OK ", entry->value, entry->size);
    *place = entry->next;
    free(entry->key), free(entry->value), free(entry);
    keys--;
    return say("204 NO_CONTENT", NULL, 0);
}

static int send_all(int fd, struct reply reply) {
    for (size_t sent = 0; sent < reply.size;) {
        ssize_t n = send(fd, reply.data + sent, reply.size - sent, MSG_NOSIGNAL);
        if (n <= 0) return -1;
        sent += (size_t)n;
    }
    return 0;
}

static void *serve(void *argument) {
    int fd = (int)(intptr_t)argument, ends = 0;
    char *buffer = malloc(MOST + 1);
    size_t size = 0;
    ssize_t n;
    while (!ends && size < MOST && (n = recv(fd, buffer + size, MOST - size, 0)) > 0) {
        size += (size_t)n;
        char *line = buffer, *feed;
        while (!ends && (feed = memchr(line, '\n', size - (line - buffer)))) {
            *feed = 0;
            pthread_mutex_lock(&lock);
            struct reply reply = answer(line, (size_t)(feed - line), &ends);
            done++;
            int with_data = !memcmp(reply.data, "200 OK ", 7) && !ends;
            if (is("reply-buffer-shared") && with_data) shared = reply; /* as in a static buffer */
            pthread_mutex_unlock(&lock);
            if (is("reply-buffer-shared") && with_data) {
                usleep(1000); /* the window of the planted race */
                reply = shared;
            }
            if (send_all(fd, reply)) ends = 1;
            if (!is("reply-buffer-shared")) free(reply.data);
            line = feed + 1;
        }
        size -= (size_t)(line - buffer);
        memmove(buffer, line, size);
    }
    free(buffer);
    close(fd);
    pthread_mutex_lock(&lock);
    connections--;
    pthread_mutex_unlock(&lock);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    bug = argv[2];
    started = time(NULL);
    signal(SIGPIPE, SIG_IGN);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) return 1;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        pthread_t thread;
        if (fd < 0) continue;
        pthread_mutex_lock(&lock);
        connections++;
        pthread_mutex_unlock(&lock);
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd)) close(fd);
        else pthread_detach(thread);
    }
}
