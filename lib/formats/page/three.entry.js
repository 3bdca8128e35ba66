// What the page uses of three.js; README.md says how three.min.js is made of it.
export {
  Box3, Box3Helper, BufferAttribute, BufferGeometry, Color, DoubleSide, Group, LineBasicMaterial, LineSegments, Matrix4,
  Mesh, MeshBasicMaterial, MOUSE, NearestFilter, OrthographicCamera, PlaneGeometry, Scene, SRGBColorSpace,
  TextureLoader, TOUCH, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
export { LineMaterial } from "three/examples/jsm/lines/LineMaterial.js";
export { LineSegments2 } from "three/examples/jsm/lines/LineSegments2.js";
export { LineSegmentsGeometry } from "three/examples/jsm/lines/LineSegmentsGeometry.js";
