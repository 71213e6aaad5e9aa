/**
 * Below 0 where `a` comes before `b` by code points. JavaScript's own `<` goes by UTF-16, which
 * differs beyond U+D7FF.
 */
export function compareText(a: string, b: string): number {
  if (a === b) return 0
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}
