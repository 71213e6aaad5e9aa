/** Images as characters of a terminal, in the protocols of iTerm2 and of kitty. */
/** How a terminal takes images. */
export type ImageProtocol = 'iterm2' | 'kitty'

/** RGB, row by row. */
interface Pixels {
  width: number
  height: number
  data: Uint8Array
}

type Environment = Readonly<Record<string, string | undefined>>

/** Rows of text that a thumbnail takes, and its longest side in pixels for kitty. */
const ROWS = 6
const LONG_SIDE = 192
/** Of base64 in one escape sequence of kitty. */
const CHUNK = 4096

/** Terminals of each protocol, by TERM_PROGRAM or TERM. */
const ITERM2 = ['iTerm.app', 'WezTerm', 'mintty', 'vscode', 'rio']
const KITTY = ['ghostty', 'xterm-ghostty', 'xterm-kitty']

/**
 * The protocol of a terminal by its variables; null where it shows no images. In tmux and screen
 * it is null: they do not pass images on.
 */
export function imageProtocol(environment: Environment): ImageProtocol | null {
  const { TERM = '', TERM_PROGRAM = '', LC_TERMINAL, KITTY_WINDOW_ID, TMUX } = environment
  if (TMUX || /^(screen|tmux)/.test(TERM)) return null
  if (KITTY.includes(TERM) || KITTY.includes(TERM_PROGRAM) || KITTY_WINDOW_ID) return 'kitty'
  return ITERM2.includes(TERM_PROGRAM) || LC_TERMINAL === 'iTerm2' ? 'iterm2' : null
}

/** @param jpeg - the stored image of an item */
export async function thumbnail(jpeg: Uint8Array, protocol: ImageProtocol): Promise<string> {
  if (protocol === 'iterm2') return inIterm2(jpeg)
  // Loaded on demand: most commands show no images.
  const { decode } = await import('jpeg-js')
  return inKitty(shrunk(decode(jpeg, { useTArray: true, formatAsRGBA: false })))
}

function inIterm2(jpeg: Uint8Array): string {
  const options = `inline=1;height=${ROWS};preserveAspectRatio=1;size=${jpeg.length}`
  return `\u001b]1337;File=${options}:${Buffer.from(jpeg).toString('base64')}\u0007`
}

/** Kitty takes PNG or pixels. */
function inKitty({ width, height, data: pixels }: Pixels): string {
  const base64 = Buffer.from(pixels).toString('base64')
  const chunks = base64.match(new RegExp(`.{1,${CHUNK}}`, 'g')) ?? []
  return chunks
    .map((chunk, at) => {
      const more = at === chunks.length - 1 ? 0 : 1
      const head = at === 0 ? `a=T,f=24,s=${width},v=${height},r=${ROWS},q=2,` : ''
      return `\u001b_G${head}m=${more};${chunk}\u001b\\`
    })
    .join('')
}

/** Every n-th pixel: enough for a thumbnail. */
function shrunk(image: Pixels): Pixels {
  const step = Math.max(1, Math.ceil(Math.max(image.width, image.height) / LONG_SIDE))
  const [width, height] = [Math.ceil(image.width / step), Math.ceil(image.height / step)]
  const data = new Uint8Array(width * height * 3)
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const from = 3 * (row * step * image.width + column * step)
      data.set(image.data.subarray(from, from + 3), 3 * (row * width + column))
    }
  }
  return { width, height, data }
}
