/* How wide the vectors of this processor are. */

/* The place in kansearch/compiled/trainer.py's LEVELS of the highest level that runs here. */
int kansearch_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const int has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512vl");
    return has_avx2 && has_avx512 ? 0 : has_avx2 ? 1 : 2;
#else
    return 2;
#endif
}
