/** A module of its own, to be imported at first need: in a bundle, the names of a CommonJS package are not there at a dynamic import. */
export { stringify } from 'yaml';
