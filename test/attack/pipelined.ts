/** Faults 1 to 3: requests sent ahead on connections that are not read, or closed at once. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Attack } from './attack.js'
import { head } from './http.js'

const BUNDLE = head('GET /docs/static/swagger-ui-bundle.js', 'none')
const DOCUMENT = head('GET /openapi.json', 'none')

export const pipelined: readonly Attack[] = [
  {
    fault: 1,
    name: 'searches behind unread files on one connection, then gone',
    async run({ raw, key, isOver }) {
      for (let at = 0; !isOver(); at += 1) {
        const socket = raw.connect(
          BUNDLE.repeat(4) + head('GET /items?limit=1', key(at)).repeat(64),
        )
        await sleep(200)
        socket.destroy()
      }
    },
  },
  {
    fault: 2,
    name: 'a thousand files of the documentation asked for and not read',
    async run({ raw, isOver }) {
      while (!isOver()) {
        raw.connect(BUNDLE.repeat(90))
        if (raw.open > 100) raw.closeAll()
        await sleep(20)
      }
    },
  },
  {
    fault: 3,
    name: 'pages of the documentation asked for 1,500 times on each of ten connections',
    async run({ raw, isOver }) {
      for (let at = 0; !isOver(); at += 1) {
        if (raw.open < 10) raw.connect(DOCUMENT.repeat(1500), { reads: at % 2 === 0 })
        if (raw.open < 20) raw.connect(DOCUMENT.repeat(100), { reads: at % 2 === 0 })
        await sleep(20)
      }
    },
  },
]
