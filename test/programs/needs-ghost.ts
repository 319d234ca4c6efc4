import { robot } from 'medulla'

robot({ ghost: 'output' }, ({ ghost, every }) => every(10, () => ghost.write(1)))
