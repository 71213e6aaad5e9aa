/** Assembles WebAssembly sources, for tests of the copies in TypeScript files. */
import { readFileSync } from 'node:fs'
import wabt from 'wabt'

/** @returns the module in base64 */
export async function assembled(source: URL): Promise<string> {
  const assembler = await wabt()
  const { buffer } = assembler
    .parseWat(source.pathname, readFileSync(source, 'utf8'), { simd: true })
    .toBinary({})
  return Buffer.from(buffer).toString('base64')
}
