/**
 * `medulla/client`, for Node programs on a laptop that `medulla` knows robots on: the same config folder, keys and pinned
 * robots as the command line. It prints nothing.
 */
import { RobotClient } from './client.ts'
import { configDir } from './config.ts'
import { clientOptions, findRobot } from './target.ts'

export type {
  LogLine,
  OperatorInfo,
  ParamReport,
  PinChange,
  PushEvent,
  Receipt,
  ReleaseInfo,
  SignedReceipt,
  SlotStatus,
  StatusReport,
} from '../shared/api.ts'
export { Refusal, type RefusalCode } from '../shared/errors.ts'
export { type ClientOptions, greet, type LogOptions, type PinOptions, type PushOptions, RobotClient } from './client.ts'
export type { RobotChannel } from './messagechannel.ts'

export interface ConnectTo {
  /** the config folder; default: that of the command line */
  dir?: string
  /** the file of the key; default: that of the command line */
  key?: string
  /** until the session is open */
  timeoutMs?: number
}

/**
 * Opens a session with a robot of this laptop: by its name in `medulla robots`, by its address, or (without either) with the
 * robot of commands without -d. Throws Refusal: `unknown-robot`, `no-key`, and those of the session.
 */
export async function connect(
  robot: string | undefined = process.env.MEDULLA_DEVICE || undefined,
  { dir = configDir(), key, timeoutMs }: ConnectTo = {},
): Promise<RobotClient> {
  const target = await findRobot(dir, robot)
  const options = await clientOptions({ dir, env: process.env }, target, key)
  return RobotClient.connect({ ...options, ...(timeoutMs === undefined ? {} : { timeoutMs }) })
}
