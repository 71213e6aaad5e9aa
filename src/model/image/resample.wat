;; The two passes of resample.ts over RGB pixels of 8 bits. A coefficient has more than 16 bits, so that it comes as a low and
;; a high half, each in one word with that of the next source pixel: what `dot` multiplies and adds at once. The sums of the high
;; halves are shifted and added at the end. Where that wraps at 32 bits, it comes to the sum of whole coefficients all the same.
(module
  (import "js" "memory" (memory 0))

  ;; One row, pixel after pixel. Where the first source pixel of each lies in the row is the first word of its entry.
  (func (export "across") (param $source i32) (param $out i32) (param $entry i32) (param $end i32) (param $entryBytes i32)
    (local $pixel i32) (local $next i32) (local $two v128) (local $low v128) (local $high v128)
    (loop $pixels
      (local.set $pixel (i32.add (local.get $source) (i32.load (local.get $entry))))
      (local.set $next (i32.add (local.get $entry) (local.get $entryBytes)))
      (local.set $entry (i32.add (local.get $entry) (i32.const 4)))
      ;; One half, with 22 bits behind the point: what is cut off at the end is rounded.
      (local.set $low (v128.const i32x4 0x200000 0x200000 0x200000 0x200000))
      (local.set $high (v128.const i32x4 0 0 0 0))
      (loop $taps
        ;; R R G G B B, from R G B R G B.
        (local.set $two (i8x16.swizzle (v128.load64_zero (local.get $pixel))
          (v128.const i8x16 0 128 3 128 1 128 4 128 2 128 5 128 128 128 128 128)))
        (local.set $low (i32x4.add (local.get $low)
          (i32x4.dot_i16x8_s (local.get $two) (v128.load32_splat (local.get $entry)))))
        (local.set $high (i32x4.add (local.get $high)
          (i32x4.dot_i16x8_s (local.get $two) (v128.load32_splat offset=4 (local.get $entry)))))
        (local.set $pixel (i32.add (local.get $pixel) (i32.const 6)))
        (local.set $entry (i32.add (local.get $entry) (i32.const 8)))
        (br_if $taps (i32.lt_u (local.get $entry) (local.get $next))))
      (local.set $low (i32x4.shr_s (i32x4.add (local.get $low) (i32x4.shl (local.get $high) (i32.const 16))) (i32.const 22)))
      (local.set $low (i16x8.narrow_i32x4_s (local.get $low) (local.get $low)))
      ;; A fourth byte, which the next pixel overwrites.
      (v128.store32_lane 0 (local.get $out) (i8x16.narrow_i16x8_u (local.get $low) (local.get $low)))
      (local.set $out (i32.add (local.get $out) (i32.const 3)))
      (br_if $pixels (i32.lt_u (local.get $entry) (local.get $end)))))

  ;; One row of `rowBytes`, 16 bytes at once, from rows of as many. How far from `source` the first of them is, is the first
  ;; word of the entry.
  (func (export "down") (param $source i32) (param $out i32) (param $entry i32) (param $end i32) (param $rowBytes i32)
    (local $row i32) (local $taps i32) (local $stop i32) (local $even v128) (local $odd v128) (local $two v128) (local $k v128) (local $h v128)
    (local $low0 v128) (local $low1 v128) (local $low2 v128) (local $low3 v128)
    (local $high0 v128) (local $high1 v128) (local $high2 v128) (local $high3 v128)
    (local.set $source (i32.add (local.get $source) (i32.load (local.get $entry))))
    (local.set $entry (i32.add (local.get $entry) (i32.const 4)))
    (local.set $stop (i32.add (local.get $out) (local.get $rowBytes)))
    (loop $columns
      (local.set $row (local.get $source))
      (local.set $taps (local.get $entry))
      (local.set $low0 (v128.const i32x4 0x200000 0x200000 0x200000 0x200000))
      (local.set $low1 (local.get $low0))
      (local.set $low2 (local.get $low0))
      (local.set $low3 (local.get $low0))
      (local.set $high0 (v128.const i32x4 0 0 0 0))
      (local.set $high1 (local.get $high0))
      (local.set $high2 (local.get $high0))
      (local.set $high3 (local.get $high0))
      (loop $rows
        (local.set $k (v128.load32_splat (local.get $taps)))
        (local.set $h (v128.load32_splat offset=4 (local.get $taps)))
        (local.set $even (v128.load (local.get $row)))
        (local.set $row (i32.add (local.get $row) (local.get $rowBytes)))
        (local.set $odd (v128.load (local.get $row)))
        (local.set $row (i32.add (local.get $row) (local.get $rowBytes)))
        (local.set $two (i8x16.shuffle 0 16 1 17 2 18 3 19 4 20 5 21 6 22 7 23 (local.get $even) (local.get $odd)))
        (local.set $odd (i8x16.shuffle 8 24 9 25 10 26 11 27 12 28 13 29 14 30 15 31 (local.get $even) (local.get $odd)))
        (local.set $even (i16x8.extend_low_i8x16_u (local.get $two)))
        (local.set $two (i16x8.extend_high_i8x16_u (local.get $two)))
        (local.set $low0 (i32x4.add (local.get $low0) (i32x4.dot_i16x8_s (local.get $even) (local.get $k))))
        (local.set $high0 (i32x4.add (local.get $high0) (i32x4.dot_i16x8_s (local.get $even) (local.get $h))))
        (local.set $low1 (i32x4.add (local.get $low1) (i32x4.dot_i16x8_s (local.get $two) (local.get $k))))
        (local.set $high1 (i32x4.add (local.get $high1) (i32x4.dot_i16x8_s (local.get $two) (local.get $h))))
        (local.set $even (i16x8.extend_low_i8x16_u (local.get $odd)))
        (local.set $odd (i16x8.extend_high_i8x16_u (local.get $odd)))
        (local.set $low2 (i32x4.add (local.get $low2) (i32x4.dot_i16x8_s (local.get $even) (local.get $k))))
        (local.set $high2 (i32x4.add (local.get $high2) (i32x4.dot_i16x8_s (local.get $even) (local.get $h))))
        (local.set $low3 (i32x4.add (local.get $low3) (i32x4.dot_i16x8_s (local.get $odd) (local.get $k))))
        (local.set $high3 (i32x4.add (local.get $high3) (i32x4.dot_i16x8_s (local.get $odd) (local.get $h))))
        (local.set $taps (i32.add (local.get $taps) (i32.const 8)))
        (br_if $rows (i32.lt_u (local.get $taps) (local.get $end))))
      (v128.store (local.get $out) (i8x16.narrow_i16x8_u
        (i16x8.narrow_i32x4_s
          (i32x4.shr_s (i32x4.add (local.get $low0) (i32x4.shl (local.get $high0) (i32.const 16))) (i32.const 22))
          (i32x4.shr_s (i32x4.add (local.get $low1) (i32x4.shl (local.get $high1) (i32.const 16))) (i32.const 22)))
        (i16x8.narrow_i32x4_s
          (i32x4.shr_s (i32x4.add (local.get $low2) (i32x4.shl (local.get $high2) (i32.const 16))) (i32.const 22))
          (i32x4.shr_s (i32x4.add (local.get $low3) (i32x4.shl (local.get $high3) (i32.const 16))) (i32.const 22)))))
      (local.set $source (i32.add (local.get $source) (i32.const 16)))
      (local.set $out (i32.add (local.get $out) (i32.const 16)))
      (br_if $columns (i32.lt_u (local.get $out) (local.get $stop))))))
