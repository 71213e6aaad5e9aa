/** Reads metadata of untrusted files in a process of its own. */
import { answerCalls } from '../../worker/answer-calls.js'
import { embeddedMetadata, sidecarCaption, type Metadata, type SidecarKind } from './metadata.js'

export interface Commands {
  embedded: { input: Uint8Array; output: Metadata }
  /** Null without a caption. */
  caption: { input: { kind: SidecarKind; bytes: Uint8Array }; output: string | null }
}

answerCalls<Commands>({
  embedded: embeddedMetadata,
  caption: ({ kind, bytes }) => sidecarCaption(kind, bytes) ?? null,
})
