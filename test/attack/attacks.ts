/** All attacks, by the number of the fault that they repeat. */
import type { Attack } from './attack.js'
import { costlyBodies } from './costly-bodies.js'
import { costlyImages } from './costly-images.js'
import { largeAnswers } from './large-answers.js'
import { pipelined } from './pipelined.js'
import { slowClients } from './slow-clients.js'

export const attacks: readonly Attack[] = [
  ...pipelined,
  ...costlyBodies,
  ...slowClients,
  ...costlyImages,
  ...largeAnswers,
]
