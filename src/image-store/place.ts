/** Where images lie under their keys: what a folder and a bucket have in common. */

/** An image as `list` tells of it. */
export interface Kept {
  key: string
  storedAt: Date
}

export interface Place {
  /** Whole and durable when it resolves; no key is put twice. */
  put(key: string, bytes: Uint8Array, signal: AbortSignal): Promise<void>
  get(key: string, signal: AbortSignal): Promise<Uint8Array | undefined>
  remove(key: string, signal: AbortSignal): Promise<void>
  list(signal?: AbortSignal): AsyncIterable<Kept>
  close(): void
}
