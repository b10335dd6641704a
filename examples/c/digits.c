/* Reads handwritten digits in C, with the network of examples/digits:
 *
 *     graphc build examples/digits/digits.onnx --shapes image=1,1,8,8 --c -o libdigits.so
 *     gcc -O2 -pthread -I. examples/c/digits.c -L. -ldigits -Wl,-rpath,'$ORIGIN' -o digits
 *     ./digits 4 < pictures.f32
 *
 * Standard input has pictures of 8x8 float32, grey levels from 0 to 16; the argument says how many threads read them. Prints the digit
 * of each.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

enum { PIXELS = 8 * 8, DIGITS = 10, MOST_PICTURES = 4096, MOST_THREADS = 64 };

static float pictures[MOST_PICTURES][PIXELS];
static int found[MOST_PICTURES];
static int picture_count, thread_count;

struct reader {
    pthread_t thread;
    int first, failed;
};

static void *read_digits(void *argument) {
    struct reader *r = argument;
    for (int i = r->first; i < picture_count && !r->failed; i += thread_count) {
        float probabilities[DIGITS];
        r->failed = digits_run(pictures[i], probabilities);
        for (int k = 1; k < DIGITS; k++)
            if (probabilities[k] > probabilities[found[i]])
                found[i] = k;
    }
    return NULL;
}

int main(int argc, char **argv) {
    thread_count = argc > 1 ? atoi(argv[1]) : 1;
    if (thread_count < 1 || thread_count > MOST_THREADS) {
        fprintf(stderr, "usage: %s [threads] < pictures.f32\n", argv[0]);
        return 2;
    }
    picture_count = (int)fread(pictures, sizeof *pictures, MOST_PICTURES, stdin);
    struct reader readers[MOST_THREADS] = {0};
    for (int i = 0; i < thread_count; i++) {
        readers[i].first = i;
        if (pthread_create(&readers[i].thread, NULL, read_digits, &readers[i]) != 0) {
            fprintf(stderr, "can't start a thread\n");
            return 1;
        }
    }
    for (int i = 0; i < thread_count; i++) {
        pthread_join(readers[i].thread, NULL);
        if (readers[i].failed) {
            fprintf(stderr, "the network failed: %d\n", readers[i].failed);
            return 1;
        }
    }
    for (int i = 0; i < picture_count; i++)
        printf("%d\n", found[i]);
    return 0;
}
