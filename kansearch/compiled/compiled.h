/* What all C code of the package shares. */

#ifndef KANSEARCH_COMPILED_H
#define KANSEARCH_COMPILED_H

/* To be raised with every change of what a function takes, and of the order of base functions: compiled/__init__.py
   refuses other versions. */
#define VERSION 4

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
/* The machine that compiles need not be the one that runs: the loader picks the widest vectors it finds there. */
#define FOR_EVERY_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EVERY_CPU
#endif

#endif
