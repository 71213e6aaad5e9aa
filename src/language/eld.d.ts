/** The part of `eld` that is used; its package has no types for this entry. */
declare module 'eld/small' {
  export const eld: {
    /** Scores from 0 to 1 by the language's code; languages without any evidence are absent. */
    detect(text: string): { getScores(): Record<string, number> }
    info(): { Languages: Record<string, string> }
  }
}
