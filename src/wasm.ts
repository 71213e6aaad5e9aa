/** WebAssembly functions over shared memory, for SIMD, which JavaScript does not have. */

/** `buffer` is replaced when the memory grows. */
export interface Memory {
  readonly buffer: ArrayBuffer
  grow(pages: number): number
}

const PAGE_BYTES = 65_536

/** TypeScript declares these only in its library for browsers. */
const { WebAssembly } = globalThis as unknown as {
  WebAssembly: {
    Module: new (bytes: Uint8Array) => object
    Instance: new (module: object, imports: object) => { exports: unknown }
    Memory: new (size: { initial: number }) => Memory
  }
}

/**
 * Compiles a module. The returned function instantiates it over a new memory of at least
 * `bytes` zero bytes.
 * @param assembled - base64; the module imports its memory as `js.memory`
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
 * Grows a memory to at least `bytes` bytes; its content stays.
 * @throws RangeError when memory runs out
 */
export function reserve(memory: Memory, bytes: number): void {
  const missing = Math.ceil((bytes - memory.buffer.byteLength) / PAGE_BYTES)
  if (missing > 0) memory.grow(missing)
}
