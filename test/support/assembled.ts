/**
 * What a WebAssembly source assembles to, for the tests that hold it and the copy in a TypeScript
 * file together.
 */
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
