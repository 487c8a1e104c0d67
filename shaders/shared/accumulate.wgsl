// What becomes of a unit's gradient when it is added to an importance.

fn accumulate(importance: f32, gradient: f32) -> f32 {
#if ACCUMULATE == square
    return fma(gradient, gradient, importance);
#elif ACCUMULATE == magnitude
    return importance + abs(gradient);
#else
    return importance + gradient;
#endif
}
