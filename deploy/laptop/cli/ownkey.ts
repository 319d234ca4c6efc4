/** Replaces the key of this laptop's user on robots: an order that the old key signs names the card of the new one. */
import { existsSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { Refusal } from '../../shared/errors.ts'
import { keyPath, operator, readRobots, readSettings, writeSettings } from '../config.ts'
import type { App, Globals } from './app.ts'
import { EXIT, exitForCode } from './exit.ts'
import { withRobot } from './robot.ts'

export interface RotateOptions {
  /** The file of the new key; made if there is none. */
  to?: string
}

/** On the robot of -d, or on all robots that this laptop knows. */
export async function rotateOwnKey(app: App, { to }: RotateOptions, globals: Globals): Promise<number> {
  const { term } = app
  const known = Object.keys(readRobots(app.dir).robots)
  const names = globals.device === undefined ? known : [globals.device]
  if (names.length === 0) throw new Refusal('unknown-robot', 'this laptop knows no robot yet', 'medulla trust --help')
  const old = keyPath(app.dir, globals.key, app.env)
  const path = await newKey(app, to)
  const { card } = await operator(app.dir, path)
  const failed: { name: string; refusal: Refusal }[] = []
  for (const name of names) {
    try {
      const now = await withRobot(app, { ...globals, key: old, device: name }, (client) =>
        client.changeOperators({ order: 'rotate-operator', card }),
      )
      term.event({ event: 'rotated', robot: name, ...now })
      term.line(`${name}: ${now.name} is ${now.role} with the key ${now.fingerprint}; the old key is revoked`)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      failed.push({ name, refusal: error })
    }
  }
  const done = names.length - failed.length
  if (done > 0) await writeSettings(app.dir, { ...readSettings(app.dir), key: relative(app.dir, path) })
  if (done > 0) term.line(`this laptop signs with ${path} from now on; the old key, ${old}, was not removed`)
  for (const { name, refusal } of failed) {
    const hint = `medulla operators rotate -d ${name} --key ${old} --to ${path}`
    term.failure(new Refusal(refusal.code, `${name}: ${refusal.message}`, hint, { cause: refusal }))
  }
  const left = known.filter((name) => !names.includes(name))
  if (done > 0 && left.length > 0) {
    term.note(`still with the old key: ${left.join(', ')}`)
    term.hint(`medulla operators rotate -d ${left[0]} --key ${old} --to ${path}`)
  }
  return failed[0] === undefined ? EXIT.ok : exitForCode(failed[0].refusal.code)
}

async function newKey(app: App, to: string | undefined): Promise<string> {
  const { generateKey } = await import('../../shared/keys.ts')
  if (to !== undefined && existsSync(to)) return resolve(to)
  const stamp = new Date().toISOString().replace(/[-:]|\..*/g, '')
  const path = to === undefined ? join(app.dir, `id_ed25519-${stamp}`) : resolve(to)
  await generateKey(path, 'medulla')
  app.term.line(`made ${path}`)
  return path
}
