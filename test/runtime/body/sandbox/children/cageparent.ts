/** Starts a confined program that blocks its event loop, prints its uid and folder, and waits to be killed. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ConfinedBy } from '../../../../../runtime/body/sandbox/confinement.ts'
import { cage } from '../cage.ts'

const [, , loader = '', sandbox] = process.argv
const one = cage({ loader, sandbox: sandbox as ConfinedBy, program: 'setTimeout(() => { for (;;); }, 20)' })
await one.answer
await sleep(100)
process.stdout.write(JSON.stringify({ uid: one.uid, folder: one.folder }))
await sleep(60_000)
