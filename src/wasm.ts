/**
 * Functions in WebAssembly over a memory that they share with JavaScript: the SIMD instructions of
 * the processor, which JavaScript itself does not reach.
 */

/** What grows is another buffer afterwards. */
export interface Memory {
  readonly buffer: ArrayBuffer
  grow(pages: number): number
}

const PAGE_BYTES = 65_536

/** TypeScript knows these by its library for browsers alone. */
const { WebAssembly } = globalThis as unknown as {
  WebAssembly: {
    Module: new (bytes: Uint8Array) => object
    Instance: new (module: object, imports: object) => { exports: unknown }
    Memory: new (size: { initial: number }) => Memory
  }
}

/**
 * Compiles a module once; what comes back opens it, each time over another memory of at least so
 * many bytes, all zero.
 * @param assembled - in base64; it imports its memory as `js.memory` and exports `Functions`
 */
export function compile<Functions>(
  assembled: string,
): (bytes: number) => { memory: Memory; functions: Functions } {
  const module = new WebAssembly.Module(Buffer.from(assembled, 'base64'))
  return (bytes) => {
    const memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / PAGE_BYTES) })
    return {
      memory,
      functions: new WebAssembly.Instance(module, { js: { memory } }).exports as Functions,
    }
  }
}

/**
 * Makes a memory at least so large; what it holds stays.
 * @throws RangeError where there is no room
 */
export function reserve(memory: Memory, bytes: number): void {
  const missing = Math.ceil((bytes - memory.buffer.byteLength) / PAGE_BYTES)
  if (missing > 0) memory.grow(missing)
}
