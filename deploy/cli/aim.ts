/** Commands in messages and hints, of the robot that they are about. */
import { shellWord } from './clean.ts'

const OF_A_ROBOT =
  /\bmedulla (push|run|watch|status|logs|get|set|poke|param|rollback|stop|start|estop|receipts|operators|floor|pinout|attack)\b(?!( [^\s,;:]+)* (-d|--device|--all)\b)/g

/** `medulla stop --slot arm` becomes `medulla stop -d NAME --slot arm`; a command that names a robot is left as it is. */
export function aimed(text: string, robot: string): string {
  return text.replace(OF_A_ROBOT, (command) => `${command} -d ${shellWord(robot)}`)
}
