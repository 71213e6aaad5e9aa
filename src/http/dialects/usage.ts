/** The use of tokens in replies: clients ask for the fields, the service does not count. */
import { Type } from 'typebox'

export const Usage = Type.Object(
  { prompt_tokens: Type.Integer(), total_tokens: Type.Integer() },
  { title: 'Usage', description: 'Not counted: always 0' },
)

export const usage = { prompt_tokens: 0, total_tokens: 0 }
