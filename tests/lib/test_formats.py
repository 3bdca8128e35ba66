"""Formats besides SWC, each read again by the library of its users."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import networkx
import numpy as np
import osteoid
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import Affine

from lib.formats import FORMATS
from lib.formats.georeference import GeoReference, ground_pixel, metres
from lib.formats.graph import BranchGraph
from lib.swclib import SwcForest
from lib.swclib.branches import Branches

NODES = np.array([[2, 2], [2, 6], [2, 10], [6, 10], [6, 6], [6, 2], [2, 14], [9, 6]], dtype=float)
"""A ladder, (y, x): a line with a corner, one more end to the right and one below."""
PARENT = [-1, 0, 1, 2, 3, 4, 2, 4]
LOOPS = np.array([[5, 0], [5, 1]])
"""The corner at the end of the line is joined to the root, and to the second node: two cycles."""
UTM = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)


def graph(ndim: int = 2, place: GeoReference | None = None, **more) -> BranchGraph:
    """The ladder, with radius 1.5, as a trace."""
    nodes = NODES if ndim == 2 else np.insert(NODES, 0, 3.0, axis=1)
    forest = SwcForest.from_positions(nodes, PARENT, radius=1.5)
    branches = Branches.of(forest, look=5)
    known = zip(branches.length.tolist(), branches.angle.tolist(), strict=True)
    table = [
        {"id": number, "length_px": length, "angle_deg": None if np.isnan(angle) else angle, "kind": None}
        for number, (length, angle) in enumerate(known, start=1)
    ]
    probability = np.linspace(0.5, 0.9, len(forest))
    return BranchGraph(
        "eye", "trace of eye.png", forest, branches.rows, table, LOOPS, probability, ndim, place=place, **more
    )


def written(tmp_path: Path, name: str, content: BranchGraph) -> Path:
    path = tmp_path / f"eye{FORMATS[name].ending}"
    FORMATS[name].write(path, content)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    return path


@pytest.fixture
def tile(tmp_path) -> GeoReference:
    """The georeference of a 16-bit tile in UTM zone 33, half a metre a pixel."""
    path = tmp_path / "tile.tif"
    form = dict(width=20, height=12, count=3, dtype="uint16", crs="EPSG:32633", transform=UTM)
    with rasterio.open(path, "w", driver="GTiff", **form) as image:
        image.write(np.full((3, 12, 20), 900, np.uint16))
    place = GeoReference.of_image(path)
    path.unlink()
    assert place is not None and place.crs == "EPSG:32633"
    return place


def in_pixels(place: GeoReference | None, xy: np.ndarray) -> np.ndarray:
    """Pixel-centre positions (y, x) of places in the reference system, computed by rasterio."""
    if place is None:
        return np.asarray(xy)[:, ::-1] - 0.5
    rows, columns = rasterio.transform.rowcol(UTM, xy[:, 0], xy[:, 1], op=float)
    return np.stack([rows, columns], axis=1) - 0.5


def cycles(ends: list[tuple]) -> int:
    """Number of independent cycles of lines between places."""
    made = networkx.MultiGraph(ends)
    return made.number_of_edges() - made.number_of_nodes() + networkx.number_connected_components(made)


def test_places_of_an_image_are_those_of_its_pixel_centres(tile):
    assert tile.coordinates(np.array([[0.0, 0.0], [2.0, 4.0]])).tolist() == [
        [500_000.25, 4_999_999.75],
        [500_002.25, 4_999_998.75],
    ]
    (lon, lat), _ = tile.longitude_latitude(np.array([[0.0, 0.0], [2.0, 4.0]]))
    assert lon == pytest.approx(15.0, abs=1e-5) and lat == pytest.approx(45.1536, abs=1e-3)


@pytest.mark.parametrize(
    ("crs", "size", "middle", "ground"),
    [
        ("EPSG:32633", 0.5, (500_000, 5_000_000), 0.5 / 0.9996),  # UTM shrinks its middle by 1 / 0.9996
        ("EPSG:3857", 1.0, (1_669_792, 8_399_738), 0.5008),  # Web Mercator: about twice the ground at 60 degrees north
        ("EPSG:4326", 1e-5, (15, 60), 0.7885),  # a degree of latitude is 111.41 km there, one of longitude 55.80
        ("EPSG:2263", 1.0, (1_000_000, 200_000), 0.3048),  # New York, in feet
    ],
)
def test_pixel_of_an_image_in_metres_on_the_ground(tmp_path, crs, size, middle, ground):
    path = tmp_path / "tile.tif"
    corner = middle[0] - 5 * size, middle[1] + 5 * size
    transform = Affine(size, 0, corner[0], 0, -size, corner[1])
    form = dict(driver="GTiff", width=10, height=10, count=1, dtype="uint8")
    with rasterio.open(path, "w", crs=crs, transform=transform, **form) as image:
        image.write(np.ones((1, 10, 10), np.uint8))
    assert ground_pixel(path, (10, 10)) == pytest.approx(ground, rel=1e-3)
    with rasterio.open(path, "w", **form) as image:
        image.write(np.ones((1, 10, 10), np.uint8))
    assert ground_pixel(path, (10, 10)) is None


def test_lengths_in_degrees_are_metres_on_the_ground():
    # At 52 degrees north a degree of latitude is 111.27 km long, one of longitude 68.68 km (52.01: 68.66).
    assert metres(np.array([[13, 52], [13, 52.01], [13.01, 52.01]])) == pytest.approx([1112.7, 686.7], abs=0.2)
    degrees = GeoReference("EPSG:4326", (1e-5, 0, 13, 0, -1e-5, 52))
    row = graph(place=degrees).lines[0][1]
    assert row["length_m"] == pytest.approx(8 * 0.6867, abs=0.01)  # eight pixels to the east
    assert row["width_mean_m"] == pytest.approx(3 * (0.6867 * 1.1127) ** 0.5, abs=0.01)


@pytest.mark.parametrize("content", ["png", "plain tiff", "nothing that GDAL knows"])
def test_an_image_without_a_reference_system_has_no_place(tmp_path, content):
    path = tmp_path / "a.tif"
    if content == "nothing that GDAL knows":
        path.write_bytes(b"no image")
    else:
        form = dict(driver="PNG" if content == "png" else "GTiff", width=4, height=4, count=1, dtype="uint8")
        with rasterio.open(path, "w", **form) as image:
            image.write(np.ones((1, 4, 4), np.uint8))
    assert GeoReference.of_image(path) is None


@pytest.mark.parametrize("is_placed", [True, False])
def test_geojson(tmp_path, tile, is_placed):
    place = tile if is_placed else None
    content = graph(place=place)
    read = json.loads(written(tmp_path, "geojson", content).read_text())
    assert read["type"] == "FeatureCollection" and "crs" not in read
    assert not {"coordinates", "geometries", "geometry", "properties"} & read.keys()  # RFC 7946 §7.1
    assert ("coordinates_are" in read) == (not is_placed)
    lines = [np.array(feature["geometry"]["coordinates"]) for feature in read["features"]]
    assert len(lines) == len(content.branches) + 2
    assert [feature["properties"]["closes_loop"] for feature in read["features"]] == [False] * len(content.branches) + [
        True
    ] * 2
    assert read["features"][0]["properties"]["kind"] is None
    closing = read["features"][-1]["properties"]
    assert (closing["id"], closing["tree"]) == (len(content.branches) + 2, 1)
    assert (closing["begin_node"], closing["end_node"]) == tuple(LOOPS[-1] + 1)
    points = np.concatenate(lines)
    if place:
        assert (abs(points[:, 0]) < 180).all() and (points[:, 1] < 90).all()
        assert (points == points.round(7)).all()
        assert read["features"][0]["properties"]["length_m"] == pytest.approx(4.0)
        assert read["features"][0]["properties"]["width_mean_m"] == pytest.approx(1.5)
        points = np.stack(rasterio.warp.transform("EPSG:4326", "EPSG:32633", *points.T), axis=1)
    wanted = np.concatenate([NODES[rows] for rows in [*content.branches, *LOOPS]])
    assert abs(in_pixels(place, points) - wanted).max() < 0.5
    sections = [pair for line in lines for pair in zip(map(tuple, line[:-1]), map(tuple, line[1:]), strict=True)]
    assert cycles(sections) == 2


@pytest.mark.parametrize("is_placed", [True, False])
def test_geopackage(tmp_path, tile, is_placed):
    place = tile if is_placed else None
    content = graph(place=place)
    path = written(tmp_path, "gpkg", content)
    info, _, geometry, columns = pyogrio.raw.read(path)
    assert info["crs"] == ("EPSG:32633" if place else None) and info["geometry_type"] == "LineString"
    assert pyogrio.list_layers(path)[:, 0].tolist() == ["branches"]
    lines = [shapely.get_coordinates(line) for line in shapely.from_wkb(geometry)]
    points = np.concatenate(lines)
    wanted = np.concatenate([NODES[rows] for rows in [*content.branches, *LOOPS]])
    assert abs(in_pixels(place, points) - wanted).max() < 1e-6
    table = dict(zip(info["fields"].tolist(), columns, strict=True))
    assert table["closes_loop"].tolist() == [False] * len(content.branches) + [True] * 2
    assert table["length_px"][:-2] == pytest.approx([row["length_px"] for row in content.table])
    assert np.isnan(table["length_px"][-2:]).all()
    sections = [pair for line in lines for pair in zip(map(tuple, line[:-1]), map(tuple, line[1:]), strict=True)]
    assert cycles(sections) == 2


@pytest.mark.parametrize(("ndim", "is_placed"), [(2, True), (2, False), (3, False)])
def test_graphml(tmp_path, tile, ndim, is_placed):
    content = graph(ndim, tile if is_placed else None)
    read = networkx.read_graphml(written(tmp_path, "graphml", content), node_type=int, force_multigraph=True)
    assert read.graph["crs"].startswith("EPSG:32633" if is_placed else "ENGCRS")
    assert not read.is_directed() and networkx.number_connected_components(read) == 1
    assert read.number_of_edges() - read.number_of_nodes() + 1 == 2
    # Every node of degree 2 is one side of a loop: the rest lies inside edges.
    assert {node for node, degree in read.degree if degree == 2} <= {row + 1 for row in LOOPS.ravel().tolist()}
    assert {int(node["street_count"]) for _, node in read.nodes(data=True)} == {1, 2, 3}
    total = 0.0
    for first, last, edge in read.edges(data=True):
        line = shapely.get_coordinates(shapely.from_wkt(edge["geometry"]), include_z=ndim == 3)
        ends = {tuple(float(read.nodes[node][axis]) for axis in "xyz"[:ndim]) for node in (first, last)}
        assert {tuple(line[0]), tuple(line[-1])} == ends
        assert float(edge["length"]) == pytest.approx(np.linalg.norm(np.diff(line, axis=0), axis=1).sum(), abs=1e-5)
        total += float(edge["length"])
        assert edge["branch"] and "length_px" not in edge
    closing = sum(np.linalg.norm(NODES[a] - NODES[b]) for a, b in LOOPS)
    assert total == pytest.approx((content.forest.length + closing) * (0.5 if is_placed else 1))


def test_precomputed_skeletons_hold_the_confidence_of_the_branch_that_leads_to_each_node(tmp_path):
    plain = graph(3)
    sure = [round(0.9 - 0.1 * number, 1) for number in range(len(plain.table))]
    table = [{**row, "confidence": value} for row, value in zip(plain.table, sure, strict=True)]
    folder = written(tmp_path, "precomputed", replace(plain, table=table))
    attributes = json.loads((folder / "info").read_text())["vertex_attributes"]
    assert [each["id"] for each in attributes] == ["radius", "probability", "confidence"]
    read = osteoid.Skeleton.from_precomputed((folder / "1").read_bytes(), segid=1, vertex_attributes=attributes)
    for rows, value in zip(plain.branches, sure, strict=True):
        assert read.confidence[rows[1:]] == pytest.approx(value)
    assert read.confidence[plain.forest.roots] == pytest.approx(sure[0])
    assert replace(plain, table=[*table[:-1], plain.table[-1]]).confidence is None


@pytest.mark.parametrize("size", [(1.0, 0.3, 0.2), None])
def test_precomputed_skeletons_are_in_nanometres(tmp_path, size):
    content = graph(3, voxel_size=size)
    folder = written(tmp_path, "precomputed", content)
    info = json.loads((folder / "info").read_text())
    read = osteoid.Skeleton.from_precomputed(
        (folder / "1").read_bytes(), segid=1, vertex_attributes=info["vertex_attributes"]
    )
    scale = np.array(size or (1e-3,) * 3) * 1000
    assert read.vertices == pytest.approx(((np.insert(NODES, 0, 3.0, axis=1) + 0.5) * scale)[:, ::-1])
    assert read.radius == pytest.approx(1.5 * scale[-1]) and read.probability == pytest.approx(content.probability)
    assert len(read.edges) == len(NODES) - 1 + 2 and read.edges.max() < len(NODES)
    properties = json.loads((folder / info["segment_properties"] / "info").read_text())["inline"]
    assert properties["ids"] == ["1"]
    length = next(column for column in properties["properties"] if column["id"] == "length_nm")["values"][0]
    steps = np.diff(read.vertices[read.edges], axis=1)[:, 0]
    assert length == pytest.approx(np.linalg.norm(steps, axis=1).sum(), abs=0.1)


def test_graphml_of_a_volume_is_in_micrometres(tmp_path):
    content = graph(3, voxel_size=(1.0, 0.3, 0.2))
    read = networkx.read_graphml(written(tmp_path, "graphml", content), node_type=int)
    assert "micrometres" in read.graph["coordinates"]
    place = [float(read.nodes[1][axis]) for axis in "xyz"]
    assert place == pytest.approx([2 * 0.2, 2 * 0.3, 3 * 1.0])


def test_precomputed_folder_of_an_earlier_run_is_replaced(tmp_path):
    (tmp_path / "eye_precomputed").mkdir()
    (tmp_path / "eye_precomputed" / "2").write_bytes(b"a tree that is there no more")
    folder = written(tmp_path, "precomputed", graph(3))
    assert sorted(path.name for path in folder.iterdir()) == ["1", "info", "segment_properties"]


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_trace_has_a_file_too(tmp_path, name):
    forest = SwcForest.empty()
    written(tmp_path, name, BranchGraph("eye", "", forest, [], [], np.zeros((0, 2), int), np.zeros(0), 2))
