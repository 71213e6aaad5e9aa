/** An API key and its scopes. */
import { createHash } from 'node:crypto'

/** Each includes those before it. */
export const scopes = ['read', 'write', 'admin'] as const
export type Scope = (typeof scopes)[number]

export interface Key {
  /** Identifies the key in logs; not secret. */
  name: string
  scopes: readonly Scope[]
  /** sha256 of the key. */
  digest: Buffer
}

/** Whether a key with the scopes `granted` may do what needs the scope `needed`. */
export function grants(granted: readonly Scope[], needed: Scope): boolean {
  return granted.some((scope) => scopes.indexOf(scope) >= scopes.indexOf(needed))
}

/** The form in which a key is stored and compared. */
export function digestOf(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
