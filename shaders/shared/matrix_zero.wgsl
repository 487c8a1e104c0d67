    // A part of main: sums of zero.
    var c00 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c01 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c02 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c03 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c10 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c11 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c12 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c13 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c20 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c21 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c22 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c23 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c30 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c31 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c32 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
    var c33 = coopLoadT<Sum>(&sh_zeros[0], FRAGMENT);
