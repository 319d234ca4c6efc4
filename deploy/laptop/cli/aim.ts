/**
 * Adds `-d NAME` and `--slot SLOT` to the commands in messages and hints, so that they reach the robot and slot in
 * question.
 */
import { shellWord } from './clean.ts'

const OF_A_ROBOT =
  /\bmedulla (push|run|watch|status|logs|get|set|poke|param|config|rollback|stop|start|estop|receipts|operators|floor|pinout|attack|runtime)\b(?!( [^\s,;:]+)* (-d|--device|--all)\b)/g
const OF_A_SLOT =
  /\bmedulla (push|run|watch|logs|param|rollback|stop|start)\b(?! --help)(?!( [^\s,;:]+)* (--slot|--all)\b)/g

/**
 * `medulla stop` becomes `medulla stop -d NAME --slot SLOT`. A command that names a robot or a slot keeps it. Null adds
 * nothing.
 */
export function aimed(text: string, robot: string | null, slot: string | null): string {
  const ofSlot = slot === null ? text : text.replace(OF_A_SLOT, (command) => `${command} --slot ${shellWord(slot)}`)
  return robot === null ? ofSlot : ofSlot.replace(OF_A_ROBOT, (command) => `${command} -d ${shellWord(robot)}`)
}
