/**
 * The module `medulla/test`, which the tests of robot programs import.
 *
 * ```ts
 * import { simulate } from 'medulla/test'
 * const sim = await simulate(() => import('./program.ts'), { board: new URL('board.json', import.meta.url) })
 * await sim.run('1s')
 * sim.assertStatesAndTimes('led', [[0, 0], [1, 250], [0, 500]])
 * await sim.stop()
 * ```
 */

export type { LaptopChannel } from './channels.ts'
export type { StateAndTime, Tolerance } from './claims.ts'
export type { Duration } from './duration.ts'
export { type Edited, edited, type Named, type Source } from './load.ts'
export type { Moment } from './recorder.ts'
export { SimulationError } from './simulatedbody.ts'
export { type SimulatedLine, type SimulateOptions, type Simulation, type Swap, simulate } from './simulation.ts'
