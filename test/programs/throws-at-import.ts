import { robot } from 'medulla'

if (process.env.LANG !== undefined) throw new Error('the robot has no such library')

robot({ led: 'output', enable: 'output' }, ({ led, every }) => every(10, () => led.write(1)))
