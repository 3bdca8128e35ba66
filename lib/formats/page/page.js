"use strict";
// The page of a trace. Places are those of the image: x to the right, y down, z away from the viewer, in pixels of x,
// 0 at the centre of the first pixel. The camera looks along z with -y up, so nothing is mirrored.
// Branches are counted from 0 in the order of the table; their ids are what people see.

const content = JSON.parse(document.getElementById("content").textContent);
const table = content.table;
const isVolume = content.ndim === 3;
const element = name => document.getElementById(name);

const LINE = 2.5, HALO = 8; // screen pixels: width of a line, and of the light behind the selected one
const REACH = 6; // screen pixels: a line this near is under the pointer
const DRAG = 4; // screen pixels that the pointer moves at least in a drag; less is a click
const CLOSE = 4; // screen pixels for a pixel of the image, where the page flies to a doubt
const FLIGHT = 350; // milliseconds
const MANY = 400000; // segments; more are drawn as thin lines
const RAMPS = {
  width: ["#3d8bff", "#24d8d0", "#9cf24a", "#fff04a"],
  confidence: ["#ff5050", "#f0e442", "#56b4e9"], // as in tools/pictures/overlay.py
};

// --- the data ---------------------------------------------------------------------------------------------------

function unpacked(text, Numbers) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = binary.charCodeAt(at);
  return new Numbers(bytes.buffer);
}

const nodes = unpacked(content.nodes, Uint32Array); // of each branch
const places = unpacked(content.places, Float32Array); // of all nodes, x y [z] each
const firstSegment = new Uint32Array(nodes.length + 1);
nodes.forEach((number, branch) => { firstSegment[branch + 1] = firstSegment[branch] + Math.max(0, number - 1); });
const segments = new Float32Array(6 * firstSegment[nodes.length]); // x y z of both ends
const owner = new Uint32Array(firstSegment[nodes.length]); // branch of each segment
const branchOfId = new Map((table.id || []).map((id, branch) => [id, branch]));

function fillSegments() {
  let node = 0, at = 0;
  for (let branch = 0; branch < nodes.length; branch++) {
    owner.fill(branch, firstSegment[branch], firstSegment[branch + 1]);
    for (let step = 1; step < nodes[branch]; step++, node++)
      for (const end of [node, node + 1])
        for (let axis = 0; axis < 3; axis++, at++)
          if (axis < content.ndim) segments[at] = places[content.ndim * end + axis];
    node++;
  }
}

/** Name of the first column that begins so and holds numbers, such as length_um for length. */
function column(beginning) {
  return Object.keys(table).find(name => name.startsWith(beginning) && table[name].some(Number.isFinite));
}

/** A number with the unit of its column: 12.3 px of length_px. */
function withUnit(value, name) {
  const unit = { px: "px", um: "µm", m: "m", voxel: "voxels" }[name.split("_").at(-1)];
  return typeof value === "number" ? `${+value.toPrecision(4)}${unit ? ` ${unit}` : ""}` : value;
}

function words(branch) {
  const names = { length: column("length"), width: WAYS.width, confidence: WAYS.confidence, kind: "kind" };
  const known = Object.entries(names).filter(([, name]) => table[name]?.[branch] != null)
    .map(([word, name]) => `${word} ${withUnit(table[name][branch], name)}`);
  const loop = table.closes_loop?.[branch] ? ["closes a loop"] : [];
  return [`branch ${table.id[branch]}`, ...loop, ...known].join("\n");
}

// --- colours ----------------------------------------------------------------------------------------------------

const GREY = new THREE.Color("#b9bec8"); // for a branch without a value
const KINDS = { artery: new THREE.Color("#ff8a7a"), vein: new THREE.Color("#4da3ff") };

/** What branches can be coloured by, and the column of each; undefined where the table does not know it. */
const WAYS = {
  tree: "tree",
  width: column("width_mean"),
  confidence: column("confidence"),
  kind: table.kind?.some(kind => kind in KINDS) ? "kind" : undefined,
};

/** Hues of neighbouring numbers differ much; those of blood and skin are left out. */
const hue = number => new THREE.Color(`hsl(${Math.round(55 + (number * 0.618034 % 1) * 275)}, 95%, 63%)`);

function onRamp(ramp, share) {
  const stops = ramp.map(each => new THREE.Color(each)), at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const below = Math.min(Math.floor(at), stops.length - 2);
  return stops[below].lerp(stops[below + 1], at - below);
}

/** The range of a column without its thinnest and widest twentieth; confidences have the range 0 to 1. */
function range(way, name) {
  if (way === "confidence") return [0, 1];
  const sorted = table[name].filter(Number.isFinite).sort((one, other) => one - other);
  return [0.05, 0.95].map(share => sorted[Math.round(share * (sorted.length - 1))]);
}


/** Colour all branches by one of WAYS. */
function colourBy(way) {
  const values = table[WAYS[way]] || [], ramp = RAMPS[way];
  const [least, most] = ramp ? range(way, WAYS[way]) : [];
  const colours = new Map([[null, GREY], [undefined, GREY]]);
  const colourOf = value => ramp ? onRamp(ramp, (value - least) / (most - least || 1)) : KINDS[value] || hue(value);
  for (const value of values) if (!colours.has(value)) colours.set(value, colourOf(value));
  for (let segment = 0; segment < owner.length; segment++) {
    const colour = colours.get(values[owner[segment]]);
    colour.toArray(segmentColours, 6 * segment);
    colour.toArray(segmentColours, 6 * segment + 3);
  }
  if (shownColours) shownColours.needsUpdate = true;
  showLegend(ramp, [least, most].map(each => withUnit(each, WAYS[way])));
  render();
}

function showLegend(ramp, [least, most]) {
  element("legend").style.visibility = ramp ? "visible" : "hidden";
  if (!ramp) return;
  element("least").textContent = least;
  element("most").textContent = most;
  element("ramp").style.background = `linear-gradient(in srgb-linear to right, ${ramp.join(", ")})`;
}

// --- the scene --------------------------------------------------------------------------------------------------

const view = element("view");
const scene = new THREE.Scene();
const camera = new THREE.OrthographicCamera();
camera.up.set(0, -1, 0);
const box = new THREE.Box3();
const lines = new THREE.Group(), halo = new THREE.Group();
const segmentColours = new Float32Array(segments.length);
const look = more => new THREE.LineMaterial({ linewidth: LINE, depthTest: isVolume, ...more });
const haloLook = look({ linewidth: HALO, color: "#ffffff", depthWrite: false });
let renderer, controls, picture, shownColours;
let current = -1; // the doubt visited last
let marked = null; // its place
let flight = 0; // the next frame on the way to it

function makeRenderer() {
  try {
    renderer = new THREE.WebGLRenderer({ antialias: true });
  } catch {
    const advice = "turn on hardware acceleration in its settings, or take another browser";
    const textContent = `The page needs WebGL, which this browser does not have: ${advice}.`;
    view.append(Object.assign(document.createElement("p"), { id: "problem", textContent }));
    throw new Error("no WebGL");
  }
  renderer.setPixelRatio(window.devicePixelRatio);
  renderer.setClearColor("#0b0c0f");
  view.prepend(renderer.domElement);
}

/** All branches as one object: wide lines, or so many that only thin ones are drawn in time. */
function makeLines() {
  if (!owner.length) return;
  let line;
  if (owner.length > MANY) {
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(segments, 3));
    geometry.setAttribute("color", new THREE.BufferAttribute(segmentColours, 3));
    line = new THREE.LineSegments(geometry, new THREE.LineBasicMaterial({ vertexColors: true, depthTest: isVolume }));
    shownColours = geometry.attributes.color;
  } else {
    const geometry = new THREE.LineSegmentsGeometry().setPositions(segments).setColors(segmentColours);
    line = new THREE.LineSegments2(geometry, look({ vertexColors: true }));
    shownColours = geometry.attributes.instanceColorStart.data;
  }
  lines.add(Object.assign(line, { renderOrder: 2 }));
  box.setFromArray(segments);
}

/** The picture, behind all branches; in volumes darker, in a frame, on the side that is away from the viewer. */
function makePicture() {
  const [low, high] = content.picture.corners.map(toPlace), size = high.clone().sub(low);
  box.union(new THREE.Box3(low, high));
  const texture = new THREE.TextureLoader().load(`data:image/jpeg;base64,${content.picture.jpeg}`, ready);
  // Without the flip the first row of the picture is at the least y. Enlarged pixels stay sharp.
  Object.assign(texture, { flipY: false, colorSpace: THREE.SRGBColorSpace, magFilter: THREE.NearestFilter });
  const material = new THREE.MeshBasicMaterial({ map: texture, side: THREE.DoubleSide, depthTest: isVolume });
  picture = new THREE.Mesh(new THREE.PlaneGeometry(size.x, size.y), material);
  picture.position.copy(low).addScaledVector(size, 0.5);
  scene.add(picture);
  if (!isVolume) return;
  material.color.set("#b4b4b4");
  scene.add(new THREE.Box3Helper(box, "#5a6270"));
}

const toPlace = numbers => new THREE.Vector3(numbers[0], numbers[1], numbers[2] ?? 0);

function makeControls() {
  controls = new THREE.OrbitControls(camera, renderer.domElement);
  Object.assign(controls, { zoomToCursor: true, enableRotate: isVolume, zoomSpeed: 2 });
  if (!isVolume) {
    controls.mouseButtons.LEFT = THREE.MOUSE.PAN;
    controls.touches.ONE = THREE.TOUCH.PAN;
  }
  controls.addEventListener("change", render);
  controls.addEventListener("start", () => cancelAnimationFrame(flight));
}

/** All of it in view; a volume is seen a little from the side. */
function showWhole() {
  cancelAnimationFrame(flight);
  const size = box.getSize(new THREE.Vector3()), far = size.length() + 10;
  box.getCenter(controls.target);
  // Straight along z, where lines of a volume lie on the tubes of its projection.
  camera.position.copy(controls.target).addScaledVector(new THREE.Vector3(0, 0, -1), far);
  Object.assign(camera, { near: 0.01 * far, far: 3 * far });
  camera.zoom = 0.98 * Math.min(view.clientWidth / (size.x + 1), view.clientHeight / (size.y + 1));
  camera.updateProjectionMatrix();
  controls.update();
  render();
}

function fit() {
  const width = view.clientWidth / 2, height = view.clientHeight / 2;
  Object.assign(camera, { left: -width, right: width, top: height, bottom: -height }); // so zoom is pixels a pixel
  camera.updateProjectionMatrix();
  renderer.setSize(view.clientWidth, view.clientHeight);
  render();
}

let isDue = false;

/** Draw once before the next frame, however often it is asked for. */
function render() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    if (picture) picture.position.z = camera.position.z < controls.target.z ? box.max.z : box.min.z;
    renderer.render(scene, camera);
    element("mark").hidden = !marked;
    if (marked) moveTo(element("mark"), toScreen(marked));
  });
}

function ready() {
  render();
  requestAnimationFrame(() => { document.body.dataset.ready = "yes"; });
}

/** Where a place is, in screen pixels from the upper left corner of the view. */
function toScreen(place) {
  const at = place.clone().project(camera);
  return { x: (at.x + 1) / 2 * view.clientWidth, y: (1 - at.y) / 2 * view.clientHeight };
}

/** Where the pointer is, as in toScreen. */
function inView(event) {
  const frame = view.getBoundingClientRect();
  return { x: event.clientX - frame.left, y: event.clientY - frame.top };
}

function moveTo(box, { x, y }) {
  Object.assign(box.style, { left: `${x}px`, top: `${y}px` });
}

function flyTo(place) {
  cancelAnimationFrame(flight);
  const from = controls.target.clone(), away = camera.position.clone().sub(from), begin = performance.now();
  const zoom = camera.zoom, goal = Math.max(zoom, CLOSE);
  function step(now) {
    const time = Math.min(Math.max((now - begin) / FLIGHT, 0), 1), share = time * time * (3 - 2 * time);
    controls.target.lerpVectors(from, place, share);
    camera.position.copy(controls.target).add(away);
    camera.zoom = zoom * (goal / zoom) ** share;
    camera.updateProjectionMatrix();
    controls.update();
    render();
    if (time < 1) flight = requestAnimationFrame(step);
  }
  flight = requestAnimationFrame(step);
}

// --- choosing ---------------------------------------------------------------------------------------------------

/** Coefficients of x, y, z and 1 in the two coordinates of toScreen: the projection is affine. */
function screenAxes() {
  const m = new THREE.Matrix4().multiplyMatrices(camera.projectionMatrix, camera.matrixWorldInverse).elements;
  const width = view.clientWidth / 2, height = view.clientHeight / 2;
  return [[m[0] * width, m[4] * width, m[8] * width, (1 + m[12]) * width],
    [-m[1] * height, -m[5] * height, -m[9] * height, (1 - m[13]) * height]];
}

/** The branch nearest to the pointer on the screen, if one is within reach. */
function branchUnder(event) {
  const { x, y } = inView(event), [[ax, ay, az, a], [bx, by, bz, b]] = screenAxes();
  let nearest = REACH ** 2, found = null;
  if (!lines.visible) return found;
  for (let segment = 0, at = 0; segment < owner.length; segment++, at += 6) {
    const x0 = segments[at], y0 = segments[at + 1], z0 = segments[at + 2];
    const x1 = segments[at + 3] - x0, y1 = segments[at + 4] - y0, z1 = segments[at + 5] - z0;
    // On the screen it begins at (px, py) from the pointer, and goes on by (dx, dy).
    const px = ax * x0 + ay * y0 + az * z0 + a - x, py = bx * x0 + by * y0 + bz * z0 + b - y;
    const dx = ax * x1 + ay * y1 + az * z1, dy = bx * x1 + by * y1 + bz * z1;
    const share = Math.min(Math.max(-(px * dx + py * dy) / (dx * dx + dy * dy || 1), 0), 1);
    const distance = (px + share * dx) ** 2 + (py + share * dy) ** 2;
    if (distance < nearest) [nearest, found] = [distance, owner[segment]];
  }
  return found;
}

/** Mark a branch, or none, and show its row. */
function select(branch) {
  halo.children.forEach(line => line.geometry.dispose());
  halo.clear();
  element("row").replaceChildren();
  element("chosen").textContent = branch == null ? "No branch is selected" : `Branch ${table.id[branch]}`;
  if (branch == null) delete document.body.dataset.selected;
  else {
    document.body.dataset.selected = table.id[branch];
    lightUp(branch);
    showRow(branch);
  }
  render();
}

function lightUp(branch) {
  const geometry = new THREE.LineSegmentsGeometry();
  geometry.setPositions(segments.slice(6 * firstSegment[branch], 6 * firstSegment[branch + 1]));
  halo.add(Object.assign(new THREE.LineSegments2(geometry, haloLook), { renderOrder: 1 }));
}

function showRow(branch) {
  for (const [name, values] of Object.entries(table)) {
    if (name === "id" || values[branch] == null) continue;
    const row = element("row").insertRow();
    row.append(Object.assign(document.createElement("th"), { textContent: name }));
    row.insertCell().textContent = values[branch];
  }
}

let pressedAt = null, isHoverDue = false;

function hover(event) {
  if (isHoverDue) return;
  isHoverDue = true;
  requestAnimationFrame(() => {
    isHoverDue = false;
    const branch = pressedAt ? null : branchUnder(event), label = element("hover");
    renderer.domElement.classList.toggle("over", branch != null);
    label.hidden = branch == null;
    if (branch == null) return;
    label.textContent = words(branch);
    const { x, y } = inView(event);
    moveTo(label, {
      x: Math.min(x + 14, view.clientWidth - label.offsetWidth),
      y: Math.min(y + 14, view.clientHeight - label.offsetHeight),
    });
  });
}

function listenToPointer(canvas) {
  canvas.addEventListener("pointermove", hover);
  canvas.addEventListener("pointerleave", () => { element("hover").hidden = true; });
  canvas.addEventListener("pointerdown", event => { pressedAt = event; });
  window.addEventListener("pointerup", event => {
    if (!pressedAt) return;
    const moved = Math.hypot(event.clientX - pressedAt.clientX, event.clientY - pressedAt.clientY);
    pressedAt = null;
    if (moved < DRAG && event.button === 0) select(branchUnder(event));
  });
  window.addEventListener("pointercancel", () => { pressedAt = null; });
}

// --- the queue --------------------------------------------------------------------------------------------------

function makeQueue() {
  const doubts = content.doubts, all = content.doubts_in_all;
  element("queue").hidden = !doubts.length;
  element("count").textContent = all > doubts.length ? `the first ${doubts.length} of ${all}` : all;
  doubts.forEach((doubt, at) => {
    const item = document.createElement("li"), small = document.createElement("small");
    small.textContent = doubt.confidence == null ? "" : `${Math.round(100 * doubt.confidence)} %`;
    item.append(...[doubt.rank ?? at + 1, `${doubt.question ?? ""} branch ${doubt.branch}`].map(text =>
      Object.assign(document.createElement("span"), { textContent: text })), small);
    item.title = doubt.gain == null ? "" : `expected gain ${doubt.gain}`;
    item.addEventListener("click", () => visit(at));
    element("doubts").append(item);
  });
}

/** Fly to a doubt, and mark its branch. */
function visit(at) {
  if (!content.doubts.length) return;
  const items = element("doubts").children;
  items[current]?.classList.remove("current");
  current = Math.min(Math.max(at, 0), items.length - 1);
  items[current].classList.add("current");
  items[current].scrollIntoView({ block: "nearest" });
  const doubt = content.doubts[current];
  marked = toPlace(doubt.place);
  select(branchOfId.get(doubt.branch) ?? null);
  flyTo(marked);
}

// --- the page ---------------------------------------------------------------------------------------------------

const KEYS = {
  n: () => visit(current + 1),
  p: () => visit(current - 1),
  f: showWhole,
  h: () => element("lines").click(),
  Escape: () => { marked = null; select(null); },
};

function makePanel() {
  element("name").textContent = content.name;
  element("origin").textContent = content.origin;
  for (const [way, name] of Object.entries(WAYS)) {
    if (way === "kind" && !name) continue;
    element("colour").append(Object.assign(new Option(way, way), { disabled: !name }));
  }
  element("colour").addEventListener("change", event => {
    colourBy(event.target.value);
    event.target.blur(); // so that keys are the page's again
  });
  element("lines").addEventListener("change", event => {
    lines.visible = halo.visible = event.target.checked;
    render();
  });
  element("whole").addEventListener("click", showWhole);
  element("next").addEventListener("click", KEYS.n);
  element("previous").addEventListener("click", KEYS.p);
  const drag = isVolume ? "Drag to turn, with the right button to move" : "Drag to move";
  element("help").textContent = `${drag}; the wheel zooms; a click selects a branch.`;
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
    KEYS[event.key]?.();
  });
}

makeRenderer();
fillSegments();
makeLines();
scene.add(lines, halo);
makePicture();
if (box.isEmpty()) box.set(new THREE.Vector3(), new THREE.Vector3(1, 1, 1));
makeControls();
listenToPointer(renderer.domElement);
makePanel();
makeQueue();
new ResizeObserver(fit).observe(view);
fit();
showWhole();
colourBy("tree");
