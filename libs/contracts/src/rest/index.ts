export {
  type AnyRoute,
  type BodyInput,
  fieldsBeside,
  fieldsInPath,
  hasBody,
  type PathInput,
  type QueryInput,
  type Route,
} from './route.js';
export { allRoutes, type RouteName, routes, type Routes } from './routes.js';
export { gather, type Sent } from './sent.js';
