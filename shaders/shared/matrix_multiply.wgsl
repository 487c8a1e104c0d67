    // A part of main: adds the products of the staged k up to `depth`. Expects `part_row` and `part_column`, where the
    // subgroup's part begins in the tile.
    for (var k = 0u; k < depth; k += FRAGMENT) {
#if RIGHT == line
        let b0 = coopLoad<Right>(&sh_right[(part_column + 0u * FRAGMENT) * RIGHT_PITCH + k], RIGHT_PITCH);
        let b1 = coopLoad<Right>(&sh_right[(part_column + 1u * FRAGMENT) * RIGHT_PITCH + k], RIGHT_PITCH);
        let b2 = coopLoad<Right>(&sh_right[(part_column + 2u * FRAGMENT) * RIGHT_PITCH + k], RIGHT_PITCH);
        let b3 = coopLoad<Right>(&sh_right[(part_column + 3u * FRAGMENT) * RIGHT_PITCH + k], RIGHT_PITCH);
#else
        let b0 = coopLoadT<Right>(&sh_right[k * RIGHT_PITCH + part_column + 0u * FRAGMENT], RIGHT_PITCH);
        let b1 = coopLoadT<Right>(&sh_right[k * RIGHT_PITCH + part_column + 1u * FRAGMENT], RIGHT_PITCH);
        let b2 = coopLoadT<Right>(&sh_right[k * RIGHT_PITCH + part_column + 2u * FRAGMENT], RIGHT_PITCH);
        let b3 = coopLoadT<Right>(&sh_right[k * RIGHT_PITCH + part_column + 3u * FRAGMENT], RIGHT_PITCH);
#endif
#if LEFT == line
        let a0 = coopLoadT<Left>(&sh_left[(part_row + 0u * FRAGMENT) * LEFT_PITCH + k], LEFT_PITCH);
        let a1 = coopLoadT<Left>(&sh_left[(part_row + 1u * FRAGMENT) * LEFT_PITCH + k], LEFT_PITCH);
        let a2 = coopLoadT<Left>(&sh_left[(part_row + 2u * FRAGMENT) * LEFT_PITCH + k], LEFT_PITCH);
        let a3 = coopLoadT<Left>(&sh_left[(part_row + 3u * FRAGMENT) * LEFT_PITCH + k], LEFT_PITCH);
#else
        let a0 = coopLoad<Left>(&sh_left[k * LEFT_PITCH + part_row + 0u * FRAGMENT], LEFT_PITCH);
        let a1 = coopLoad<Left>(&sh_left[k * LEFT_PITCH + part_row + 1u * FRAGMENT], LEFT_PITCH);
        let a2 = coopLoad<Left>(&sh_left[k * LEFT_PITCH + part_row + 2u * FRAGMENT], LEFT_PITCH);
        let a3 = coopLoad<Left>(&sh_left[k * LEFT_PITCH + part_row + 3u * FRAGMENT], LEFT_PITCH);
#endif
        c00 = coopMultiplyAdd(a0, b0, c00);
        c01 = coopMultiplyAdd(a0, b1, c01);
        c02 = coopMultiplyAdd(a0, b2, c02);
        c03 = coopMultiplyAdd(a0, b3, c03);
        c10 = coopMultiplyAdd(a1, b0, c10);
        c11 = coopMultiplyAdd(a1, b1, c11);
        c12 = coopMultiplyAdd(a1, b2, c12);
        c13 = coopMultiplyAdd(a1, b3, c13);
        c20 = coopMultiplyAdd(a2, b0, c20);
        c21 = coopMultiplyAdd(a2, b1, c21);
        c22 = coopMultiplyAdd(a2, b2, c22);
        c23 = coopMultiplyAdd(a2, b3, c23);
        c30 = coopMultiplyAdd(a3, b0, c30);
        c31 = coopMultiplyAdd(a3, b1, c31);
        c32 = coopMultiplyAdd(a3, b2, c32);
        c33 = coopMultiplyAdd(a3, b3, c33);
    }
