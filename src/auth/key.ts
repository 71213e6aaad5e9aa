/** Each implies those before it. */
export const scopes = ['read', 'write', 'admin'] as const
export type Scope = (typeof scopes)[number]

/** Whether a key with the scopes `given` may do what needs the scope `needed`. */
export function grants(given: readonly Scope[], needed: Scope): boolean {
  return given.some((scope) => scopes.indexOf(scope) >= scopes.indexOf(needed))
}
