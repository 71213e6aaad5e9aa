/** Where graphs run: a provider of the runtime and one of its devices. */

export type Provider = 'cuda' | 'tensorrt' | 'cpu'

export interface Execution {
  provider: Provider
  /** Number of the GPU; 0 for the CPU. */
  device: number
  /** Threads for one run on the CPU. */
  threads: number
}
