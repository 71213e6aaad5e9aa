/** What the service and its workers send each other. */
import type { ErrorCode } from '../errors.js'

/** The commands of a worker by name, each with its input and its output. */
export type Commands<C> = { [Name in keyof C]: { input: unknown; output: unknown } }

export type Call<C extends Commands<C>> = <Name extends keyof C>(
  name: Name,
  input: C[Name]['input'],
) => Promise<C[Name]['output']>

export interface Question {
  number: number
  name: string
  input: unknown
}

export type Reply =
  | { number: number; output: unknown }
  | { number: number; failure: { code: ErrorCode | null; message: string } }

/** The number of the first reply, which has no question: the worker is ready for calls. */
export const HELLO = 0
