/** Opens what a body consists of: home, board, operators, store, receipts, hardware. */
import { join } from 'node:path'
import { Refusal } from '../../deploy/shared/errors.ts'
import { timeScale } from '../../deploy/shared/timescale.ts'
import { HardwareError } from '../../drivers/errors.ts'
import { createLog } from '../log.ts'
import { Builds } from '../store/builds.ts'
import { Bundles } from '../store/bundles.ts'
import { ConfigFile } from '../store/config.ts'
import { openHome } from '../store/home.ts'
import { loadOperators } from '../store/operators.ts'
import { Receipts } from '../store/receipts.ts'
import { Slots } from '../store/slots.ts'
import { BundleVerifier } from '../store/verifier.ts'
import { Body } from './body.ts'
import { loadBoard } from './hardware/boardfile.ts'
import { Hardware } from './hardware/hardware.ts'
import type { BodyOptions } from './options.ts'
import type { SavedBody } from './replace/saved.ts'
import { RunDirs } from './sandbox/rundir.ts'
import { StopLatch } from './stop/stops.ts'

/** The body could not be opened, and has touched no handle. */
export class NotTouched extends Error {}

/** `saved`: what the runtime that this one replaces has left (HANDOVER 18). */
export async function openBody(options: BodyOptions, saved?: SavedBody): Promise<Body> {
  const named = options.name === undefined ? {} : { name: options.name }
  const home = await openHome(options.home, { ...named, inherited: saved !== undefined })
  const verifier = new BundleVerifier()
  let touched = false
  try {
    const board = await loadBoard(options, home.dir)
    if (options.sim && board.model !== 'sim') {
      const message = `--sim drives simulated boards only, and the board file says ${board.model}`
      throw new Refusal('bad-board', message, 'write "model": "sim", or leave --sim away')
    }
    const operators = await loadOperators(home)
    const bundles = await Bundles.open(join(home.dir, 'store'), verifier)
    const slots = await Slots.open(home)
    const receipts = await Receipts.open(home)
    const config = await ConfigFile.open(home.dir)
    const builds = await Builds.open(home.dir, board.requireReproduced ?? null)
    const dirs = new RunDirs(home.dir, saved?.dirs)
    const stops = StopLatch.open(home.dir)
    let body: Body | null = null
    touched = true
    const hardware = await Hardware.open({
      board,
      home: home.dir,
      folder: join(dirs.base, 'handles'),
      sandbox: options.sandbox,
      scale: timeScale(),
      nextFence: () => slots.nextFence(),
      latchFd: stops.fd,
      stopped: () => body?.emergency.pressed(),
      log: createLog('body'),
      saved: saved?.hardware,
    })
    const stored = { operators, bundles, slots, receipts, verifier, stops, config, builds }
    body = new Body({ options, home, board, ...stored, hardware, dirs })
    for (const problem of [...slots.problems, ...receipts.problems, ...config.problems, ...builds.problems])
      body.slot('main').log.add('runtime', problem, 0, 'warn')
    return body
  } catch (error) {
    await Promise.all([home.close(), verifier.close()])
    if (saved !== undefined && !touched) throw new NotTouched((error as Error).message, { cause: error })
    if (error instanceof HardwareError)
      throw new Refusal('bad-device', error.message, 'medulla doctor', { cause: error })
    throw error
  }
}
