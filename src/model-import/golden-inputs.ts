/** The images and texts on which an import compares its graphs with the original ones. */
import type { Raster } from '../model/image/resample.js'

/** Capitals, accents, other scripts, emoji, nearly nothing, and more than any model reads. */
export const GOLDEN_TEXTS: readonly string[] = [
  'a brown dog runs across the grass',
  'A Brown DOG Runs Across The GRASS',
  'two people on a red bicycle',
  'Un café près de la plage, le soir',
  'größere Straße über dem Fluß',
  'çok güzel bir İstanbul manzarası',
  '一只狗在草地上奔跑',
  'собака бежит по траве',
  'كلب يجري على العشب',
  'a cat 🐈 and a rainbow 🌈!',
  'x',
  '?',
  "it's 12:30, isn't it? #sunset @ 50% off_today",
  '  spaces   and\ttabs\n around   ',
  'a photograph of a small white house with a red roof beside a lake under a cloudy evening sky',
  'a long walk along the sea and through the hills '.repeat(40),
]

const SIZES: readonly (readonly [number, number])[] = [
  [320, 240],
  [241, 333],
  [500, 375],
  [97, 97],
  [640, 213],
  [150, 451],
  [33, 47],
  [401, 299],
]

/** Eight images of odd sizes: gradients, discs, stripes and noise, the same everywhere. */
export function goldenImages(): Raster[] {
  return SIZES.map(([width, height], number) => {
    const data = new Uint8Array(width * height * 3)
    let state = number + 1
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const isDisc = Math.hypot(x - width / 3, y - height / 2) < Math.min(width, height) / 4
        const isStripe = (x + 2 * y) % (11 + 4 * number) < 5
        for (let channel = 0; channel < 3; channel += 1) {
          // Xorshift (Marsaglia 2003).
          state ^= state << 13
          state ^= state >>> 17
          state ^= state << 5
          const slope = (255 * (channel === 1 ? x / width : y / height)) | 0
          const colour = isDisc ? (60 * number + 80 * channel) & 255 : slope
          const noise = (state >>> 0) % (8 + 6 * number)
          const value = colour + noise + (isStripe ? 24 : 0)
          data[(y * width + x) * 3 + channel] = Math.min(255, value)
        }
      }
    }
    return { data, width, height }
  })
}
